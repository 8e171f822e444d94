//! Parent: the sensor while the target runs: one loop that answers trapped calls, reads events, obeys the
//! controller, forwards signals, and reaps. It has one thread, and waits in one place.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Failure;
use super::control::{Command, Reply};
use super::event::Line;
use super::exec::Exec;
use super::journal::Journal;
use super::opens::Opens;
use super::signals::{self, Signals};
use super::spawn::{Recipe, Spawned};
use super::talk::{Talk, shorten};
use super::traps::Traps;
use super::who::Who;
use crate::sys::process::{Change, reap};

/// The recorders and what they write to.
#[derive(Debug)]
pub struct Recording {
    /// The trace.
    pub journal: Journal,
    /// Whose doing it is.
    pub who: Who,
    /// The syscall recorder.
    pub traps: Traps,
    /// The fanotify recorder; `None` where it is not armed.
    pub opens: Option<Opens>,
}

/// The sensor while the target runs.
#[derive(Debug)]
pub struct Parent {
    recipe: Recipe,
    pid: i32,
    starting: Option<Spawned>,
    recording: Recording,
    talk: Talk,
    signals: Signals,
    execs: Vec<Exec>,
    settle: Option<Settle>,
    kill_at: Option<Instant>,
    ignored: bool,
    failed: Option<(i32, String)>,
    phase: Phase,
}

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The target runs.
    Running,
    /// It ended with this status; what it left behind is being killed, until this time at most.
    Ending(i32, Instant),
    /// The trace is whole; the controller may read it until this time.
    Done(i32, Instant),
    /// Nothing is left to do.
    Over(i32),
}

#[derive(Clone, Copy, Debug)]
struct Settle {
    quiet: Duration,
    until: Instant,
}

/// Something that poll(2) can announce.
#[derive(Clone, Copy, Debug)]
enum Ready {
    Trap(usize),
    TrapEnded(usize),
    Opens,
    Signal,
    Input,
    Out,
    Started,
    ExecStarted(usize),
    ExecOutput(usize, usize),
}

/// How long what was recorded stays in our memory.
const FLUSH: Duration = Duration::from_millis(5);
/// How long killed processes may take to vanish.
const VANISH: Duration = Duration::from_secs(10);
/// How long the controller may take to read the trace.
const READ: Duration = Duration::from_secs(30);
/// What the engine's own stop gives a container.
const STOP: Duration = Duration::from_secs(10);

impl Parent {
    pub(super) fn new(
        recipe: Recipe,
        target: Spawned,
        recording: Recording,
        talk: Talk,
        signals: Signals,
    ) -> Self {
        Self {
            recipe,
            pid: target.pid,
            starting: Some(target),
            recording,
            talk,
            signals,
            execs: Vec::new(),
            settle: None,
            kill_at: None,
            ignored: false,
            failed: None,
            phase: Phase::Running,
        }
    }

    /// Runs until the target ended and the controller has its trace; gives the target's exit status.
    pub(super) fn run(mut self) -> Result<u8, Failure> {
        while !matches!(self.phase, Phase::Over(_)) {
            for ready in self.wait() {
                self.obey(ready);
            }
            self.look_at_the_clock();
        }
        self.recording.journal.flush();
        self.talk.finish();
        let Phase::Over(status) = self.phase else {
            return Ok(1);
        };
        match self.failed {
            Some((status, text)) => Err(Failure { error: anyhow::anyhow!(text), target: Some(status) }),
            None => Ok(status as u8),
        }
    }

    /// Waits for the next thing to do, or the next deadline. Trapped calls stand first.
    fn wait(&self) -> Vec<Ready> {
        let mut asked: Vec<(Ready, BorrowedFd<'_>, PollFlags)> = Vec::with_capacity(16);
        let mut ask = |ready, fd, flags| asked.push((ready, fd, flags));
        for (end, fd) in self.recording.traps.fds().enumerate() {
            ask(Ready::Trap(end), fd, PollFlags::POLLIN);
        }
        if let Some(opens) = &self.recording.opens {
            ask(Ready::Opens, opens.fd(), PollFlags::POLLIN);
        }
        ask(Ready::Signal, self.signals.fd(), PollFlags::POLLIN);
        if let Some(input) = self.talk.input() {
            ask(Ready::Input, input, PollFlags::POLLIN);
        }
        if self.talk.waits() {
            ask(Ready::Out, self.talk.out(), PollFlags::POLLOUT);
        }
        if let Some(starting) = &self.starting {
            ask(Ready::Started, std::os::fd::AsFd::as_fd(&starting.socket), PollFlags::POLLIN);
        }
        for (n, exec) in self.execs.iter().enumerate() {
            if let Some(socket) = exec.socket() {
                ask(Ready::ExecStarted(n), socket, PollFlags::POLLIN);
            }
            for (pipe, end) in exec.pipes.iter().enumerate().filter(|_| !self.talk.is_full()) {
                if let Some(end) = end {
                    ask(Ready::ExecOutput(n, pipe), std::os::fd::AsFd::as_fd(end), PollFlags::POLLIN);
                }
            }
        }
        let mut fds: Vec<PollFd<'_>> = asked.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
        // An error is EINTR: then nothing is ready, and we come again.
        if poll(&mut fds, self.timeout()).is_err() {
            return Vec::new();
        }
        let mut ended = Vec::new();
        let mut ready = Vec::new();
        for ((what, ..), fd) in asked.iter().zip(&fds) {
            let Some(flags) = fd.revents().filter(|flags| !flags.is_empty()) else { continue };
            match what {
                // Nobody is behind this filter any more.
                Ready::Trap(end) if !flags.contains(PollFlags::POLLIN) => ended.push(Ready::TrapEnded(*end)),
                what => ready.push(*what),
            }
        }
        // Last, and from the last one on: numbers that are still to be used must not change.
        ready.extend(ended.into_iter().rev());
        ready
    }

    fn timeout(&self) -> PollTimeout {
        let journal = &self.recording.journal;
        let phase = match self.phase {
            Phase::Ending(_, until) | Phase::Done(_, until) => Some(until),
            Phase::Running | Phase::Over(_) => None,
        };
        let settle = self.settle.map(|settle| (journal.last_new() + settle.quiet).min(settle.until));
        let flush = journal.dirty().map(|since| since + FLUSH);
        let execs = self.execs.iter().filter_map(Exec::deadline);
        let next = [phase, settle, flush, self.kill_at].into_iter().flatten().chain(execs).min();
        next.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
        })
    }

    fn obey(&mut self, ready: Ready) {
        let Recording { journal, who, traps, opens } = &mut self.recording;
        match ready {
            Ready::TrapEnded(end) => traps.close(end),
            Ready::Trap(end) => traps.answer(end, who, journal),
            Ready::Opens => {
                if let Some(opens) = opens {
                    opens.read(who, journal);
                }
            }
            Ready::Signal => self.take_signals(),
            Ready::Input => {
                let (commands, open) = self.talk.listen();
                for command in commands {
                    match command {
                        Some(command) => self.command(command),
                        None => {
                            self.recording.journal.note("a command from the controller was not understood")
                        }
                    }
                }
                if !open {
                    self.controller_is_gone();
                }
            }
            Ready::Out => self.talk.send(),
            Ready::Started => self.target_started(),
            Ready::ExecStarted(n) => {
                if let Some(exec) = self.execs.get_mut(n) {
                    exec.learn(&mut self.talk);
                }
            }
            Ready::ExecOutput(n, pipe) => {
                if let Some(exec) = self.execs.get_mut(n) {
                    exec.forward(pipe, &mut self.talk);
                }
            }
        }
    }

    fn target_started(&mut self) {
        let Some(starting) = self.starting.take() else {
            return;
        };
        match starting.outcome() {
            Ok(()) => self.talk.say(&Reply::Started { pid: self.pid }),
            Err(failed) => self.failed = Some((failed.status, failed.text)),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Mark { n, name } => {
                self.drain();
                self.recording.journal.mark(n, &name);
                // Whoever reads the trace after the answer finds everything up to here.
                self.recording.journal.flush();
                self.talk.say(&Reply::Marked { n });
            }
            Command::Exec { id, argv, name, timeout_ms } => self.exec(id, &argv, &name, timeout_ms),
            Command::Signal { signal } => {
                if self.phase == Phase::Running && signals::would_notice(self.pid, signal) {
                    let _ = signals::send(self.pid, signal);
                }
            }
            Command::Settle { quiet_ms, max_ms } => {
                let until = Instant::now() + Duration::from_millis(max_ms.min(1 << 40));
                self.settle = Some(Settle { quiet: Duration::from_millis(quiet_ms.min(1 << 40)), until });
            }
            Command::Stop { signal, timeout_ms } => {
                self.stop(signal, Duration::from_millis(timeout_ms.min(1 << 40)))
            }
            Command::Bye => match self.phase {
                Phase::Done(status, _) => self.phase = Phase::Over(status),
                _ => self.controller_is_gone(),
            },
        }
    }

    fn exec(&mut self, id: u32, argv: &[String], name: &str, timeout_ms: u64) {
        let started = match self.phase {
            Phase::Running => Exec::start(&self.recipe, id, argv, timeout_ms),
            _ => Err(anyhow::anyhow!("the target has ended")),
        };
        let started = started.and_then(|mut exec| {
            let origin = format!("exec:{name}");
            self.recording.who.add_root(exec.pid, &origin);
            if let Some(starting) = &mut exec.starting {
                self.recording.traps.attach(starting, &origin)?;
                starting.go()?;
            }
            Ok(exec)
        });
        match started {
            Ok(exec) => self.execs.push(exec),
            Err(error) => {
                use base64::Engine as _;
                let text = format!("{error:#}\n");
                let data = base64::engine::general_purpose::STANDARD.encode(shorten(&text, 2000));
                self.talk.say(&Reply::Output { id, fd: 2, data });
                self.talk.say(&Reply::ExecEnd { id, status: 126, timed_out: false });
            }
        }
    }

    /// Stops the target as the engine would stop a PID 1.
    fn stop(&mut self, signal: i32, timeout: Duration) {
        if self.phase != Phase::Running {
            return;
        }
        if signals::would_notice(self.pid, signal) {
            let _ = signals::send(self.pid, signal);
            self.kill_at = Some(Instant::now() + timeout);
        } else {
            self.ignored = true;
            let _ = signals::send(self.pid, libc::SIGKILL);
        }
    }

    fn controller_is_gone(&mut self) {
        if let Phase::Running | Phase::Ending(..) = self.phase {
            signals::kill_all();
        }
        self.phase = match self.phase {
            Phase::Done(status, _) => Phase::Over(status),
            _ => Phase::Over(128 + libc::SIGKILL),
        };
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                libc::SIGCHLD => self.reap(),
                libc::SIGTERM => self.stop(libc::SIGTERM, STOP),
                libc::SIGPIPE | libc::SIGTTOU | libc::SIGTTIN | libc::SIGTSTP => {}
                other if self.phase == Phase::Running && signals::would_notice(self.pid, other) => {
                    let _ = signals::send(self.pid, other);
                }
                _ => {}
            }
        }
    }

    fn reap(&mut self) {
        loop {
            match reap() {
                Ok(Some(Change::Ended(pid, status))) => self.ended(pid, status),
                Ok(Some(Change::Stopped(tid, status))) => {
                    let Recording { journal, who, traps, .. } = &mut self.recording;
                    traps.stopped(tid, status, who, journal);
                }
                Ok(None) => return,
                Err(_) => {
                    if let Phase::Ending(status, _) = self.phase {
                        self.finish(status);
                    }
                    return;
                }
            }
        }
    }

    fn ended(&mut self, pid: i32, status: i32) {
        if let Some(exec) = self.execs.iter_mut().find(|exec| exec.pid == pid && !exec.has_ended()) {
            exec.end(status, &mut self.talk);
            self.drain();
            self.recording.who.remove_root(pid);
            self.recording.traps.forget(pid);
        } else if pid == self.pid && self.phase == Phase::Running {
            self.target_started();
            self.kill_at = None;
            self.phase = Phase::Ending(status, Instant::now() + VANISH);
            if self.failed.is_none() {
                self.drain();
                self.recording.journal.line(&Line::Exit { status });
                self.recording.journal.flush();
                self.talk.say(&Reply::Exited { status, handled: !self.ignored });
            }
            signals::kill_all();
        }
    }

    /// Every process is gone (or will not go): ends the trace.
    fn finish(&mut self, status: i32) {
        self.drain();
        self.phase = Phase::Done(status, Instant::now() + READ);
        if self.failed.is_some() {
            self.phase = Phase::Over(status);
            return;
        }
        self.talk.end_output();
        match self.recording.journal.end() {
            Ok(accesses) => self.talk.say(&Reply::Done { accesses }),
            Err(error) => {
                self.talk.say(&Reply::Failed { error: format!("{error:#}"), target: None });
            }
        }
    }

    /// Answers the calls that wait and reads the events that are there now.
    fn drain(&mut self) {
        let Recording { journal, who, traps, opens } = &mut self.recording;
        traps.answer_waiting(who, journal);
        while opens.as_mut().is_some_and(|opens| opens.read(who, journal)) {}
    }

    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        self.execs.retain(|exec| !exec.is_over());
        for exec in &mut self.execs {
            if exec.deadline().is_some_and(|at| at <= now) {
                exec.time_out();
            }
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            let _ = signals::send(self.pid, libc::SIGKILL);
        }
        if let Some(settle) = self.settle {
            self.settled(settle, now);
        }
        match self.phase {
            Phase::Ending(status, until) if until <= now => {
                self.recording.journal.lost("killed processes did not end");
                self.finish(status);
            }
            Phase::Done(status, until) if until <= now => self.phase = Phase::Over(status),
            _ => {}
        }
        let journal = &mut self.recording.journal;
        if journal.dirty().is_some_and(|since| now >= since + FLUSH) {
            journal.flush();
        }
    }

    fn settled(&mut self, settle: Settle, now: Instant) {
        if self.recording.journal.last_new() + settle.quiet > now && settle.until > now {
            return;
        }
        self.drain();
        let quiet = self.recording.journal.last_new() + settle.quiet <= now;
        if quiet || settle.until <= now {
            self.settle = None;
            self.talk.say(&Reply::Settled { paths: self.recording.journal.paths(), quiet });
        }
    }
}
