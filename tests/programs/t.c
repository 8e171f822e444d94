// t VERB ARG... [, VERB ARG...]...: makes the system calls that the tests look for in a trace.
// Built with gcc -static; each verb is a few lines, and says nothing unless it fails to be tried.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

extern char **environ;
static void run(char **words);

static void *in_thread(void *words) {
	run(words);
	return NULL;
}

static void on_alarm(int signal) {
	(void)signal;
}

// A timer that fires all the time, as runtimes preempt themselves: no call may be restarted for ever.
static void preempted(int count) {
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct itimerval often = {{0, 200}, {0, 200}};
	struct stat s;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int n = 0; n < count; n++) {
		char path[64];
		snprintf(path, sizeof path, "/data/preempted-%d", n);
		stat(path, &s);
	}
	memset(&often, 0, sizeof often);
	setitimer(ITIMER_REAL, &often, NULL);
}

static void *stat_many(void *number) {
	struct stat s;
	for (int n = 0; n < 1000; n++) {
		char path[64];
		snprintf(path, sizeof path, "thread-%ld/%d", (long)number, n);
		stat(path, &s);
	}
	return NULL;
}

static void threads(int count) {
	pthread_t all[64];
	for (long n = 0; n < count; n++) pthread_create(all + n, NULL, stat_many, (void *)n);
	for (long n = 0; n < count; n++) pthread_join(all[n], NULL);
}

static void on_term(int signal) {
	(void)signal;
	_exit(7);
}

static void unix_socket(const char *path) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	connect(fd, (struct sockaddr *)&address, sizeof address);
	close(fd);
}

static void cat(const char *path) {
	char buffer[4096];
	int fd = open(path, O_RDONLY);
	for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;)
		write(1, buffer, got);
	close(fd);
}

static void open_many(const char *dir, int count) {
	for (int n = 0; n < count; n++) {
		char path[256];
		snprintf(path, sizeof path, "%s/%d", dir, n);
		int fd = open(path, O_RDONLY);
		if (fd < 0)
			exit(9);
		close(fd);
	}
}

static void long_path(void) {
	// 4094 bytes, made of "./" and a name.
	char path[4096];
	memset(path, 0, sizeof path);
	strcpy(path, "/tmp/");
	while (strlen(path) < 4086)
		strcat(path, "./");
	strcat(path, "longone");
	struct stat s;
	stat(path, &s);
}

static void show_errno(const char *name, long result) {
	printf("%s %s\n", name, result < 0 ? strerrorname_np(errno) : "ok");
}

static int in_child(int (*what)(void)) {
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		errno = 0;
		_exit(what() < 0 ? errno : 0);
	}
	int status;
	waitpid(pid, &status, 0);
	errno = WEXITSTATUS(status);
	return errno ? -1 : 0;
}

static int do_unshare(void) { return unshare(0x10000000); }
static int do_clone(void) {
	int pid = syscall(SYS_clone, 0x10000000 | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(0);
	return pid;
}
static int do_clone3(void) { return syscall(SYS_clone3, NULL, 0); }
static int do_setns(void) { return syscall(SYS_setns, -1, 0); }
static int do_sethostname(void) { return sethostname("", -1); }

// What a target is allowed and given, one line each, in a fixed order. The calls would change nothing even
// where they are allowed.
static void identity(void) {
	char line[4096];
	FILE *status = fopen("/proc/self/status", "r");
	while (fgets(line, sizeof line, status))
		if (strstr("Uid: Gid: Groups: CapInh: CapPrm: CapEff: CapBnd: CapAmb: NoNewPrivs: Seccomp: Umask: SigBlk: SigIgn: SigCgt:", strtok(strdup(line), "\t ")))
			fputs(line, stdout);
	fclose(status);
	char cwd[4096];
	printf("cwd %s\n", getcwd(cwd, sizeof cwd) ? cwd : strerrorname_np(errno));
	for (int r = 0; r < RLIM_NLIMITS; r++) {
		struct rlimit limit;
		getrlimit(r, &limit);
		printf("limit %d %lu %lu\n", r, (unsigned long)limit.rlim_cur, (unsigned long)limit.rlim_max);
	}
	printf("oom ");
	fflush(stdout);
	cat("/proc/self/oom_score_adj");
	printf("leader %d %d dumpable %d\n", getsid(0) == getpid(), getpgrp() == getpid(), prctl(PR_GET_DUMPABLE));
	for (int fd = 0; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			printf("fd %d\n", fd);
	for (const char *name = "/dev/stdout"; name; name = strcmp(name, "/dev/stderr") ? "/dev/stderr" : NULL) {
		int fd = open(name, O_WRONLY);
		show_errno(name, fd);
		if (fd >= 0)
			write(fd, "", 0), close(fd);
	}
	show_errno("unshare", in_child(do_unshare));
	show_errno("clone newuser", in_child(do_clone));
	show_errno("clone3", in_child(do_clone3));
	show_errno("setns", in_child(do_setns));
	show_errno("sethostname", in_child(do_sethostname));
	show_errno("mount", mount("none", "/nonesuch", "tmpfs", 0, NULL));
	show_errno("umount2", umount2("/nonesuch", 0));
	show_errno("bpf", syscall(SYS_bpf, 0, NULL, 0));
	show_errno("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
	show_errno("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
	show_errno("fsconfig", syscall(SYS_fsconfig, -1, 0, 0, 0, 0));
	show_errno("fsmount", syscall(SYS_fsmount, -1, 0, 0));
	show_errno("fspick", syscall(SYS_fspick, -1, "/", 0));
	show_errno("open_tree", syscall(SYS_open_tree, -1, "/nonesuch", 0));
	show_errno("move_mount", syscall(SYS_move_mount, -1, "", -1, "", 0));
	show_errno("mount_setattr", syscall(SYS_mount_setattr, -1, "", 0, NULL, 0));
	show_errno("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
	show_errno("quotactl", syscall(SYS_quotactl, 0, NULL, 0, NULL));
	show_errno("quotactl_fd", syscall(443, -1, 0, 0, NULL));
	show_errno("setdomainname", setdomainname("", -1));
	show_errno("syslog", syscall(SYS_syslog, 10, NULL, 0));
	show_errno("lookup_dcookie", syscall(SYS_lookup_dcookie, 0, NULL, 0));
	show_errno("name_to_handle_at", syscall(SYS_name_to_handle_at, -1, "/nonesuch", NULL, NULL, 0));
	show_errno("kcmp", syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0));
	show_errno("pidfd_getfd", syscall(438, -1, 0, 0));
	show_errno("process_madvise", syscall(440, -1, NULL, 0, 0, 0));
	show_errno("process_vm_readv", syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0));
	show_errno("ptrace", syscall(SYS_ptrace, 16, 99999, 0, 0));
	show_errno("chroot", chroot("/nonesuch"));
	show_errno("chown", chown("/tmp/mine", 5, 5));
	show_errno("setgroups", setgroups(0, NULL));
	fflush(stdout);
}

// Makes any system call: `raw NUMBER WORD...`, where `@` is AT_FDCWD, `buf` some zeros, `sock:PATH` an address of
// a unix socket, and what begins with a slash a string.
static void raw(char **words) {
	static char zeros[4096];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	long args[6] = {0};
	for (int n = 0; n < 6 && words[n + 2]; n++) {
		char *word = words[n + 2];
		memset(zeros, 0, sizeof zeros);
		if (*word == '/') args[n] = (long)word;
		else if (!strcmp(word, "@")) args[n] = AT_FDCWD;
		else if (!strcmp(word, "buf")) args[n] = (long)zeros;
		else if (!strncmp(word, "sock:", 5))
			strncpy(address.sun_path, word + 5, sizeof address.sun_path - 1), args[n] = (long)&address;
		else args[n] = atol(word);
	}
	syscall(atoi(words[1]), args[0], args[1], args[2], args[3], args[4], args[5]);
}

#define IS(verb) (strcmp(words[0], verb) == 0)
static void run(char **words) {
	struct stat s;
	struct statx sx;
	struct statfs sf;
	char buffer[256];
	char *arg = words[1], *arg2 = arg ? words[2] : NULL;
	int dir;
	if (IS("stat")) stat(arg, &s);
	else if (IS("lstat")) lstat(arg, &s);
	else if (IS("statx")) statx(AT_FDCWD, arg, 0, STATX_ALL, &sx);
	else if (IS("fstat")) fstatat(0, "", &s, AT_EMPTY_PATH);
	else if (IS("access")) access(arg, R_OK);
	else if (IS("readlink")) readlink(arg, buffer, sizeof buffer);
	else if (IS("chdir")) chdir(arg);
	else if (IS("chroot")) chroot(arg), chdir("/");
	else if (IS("opath")) close(open(arg, O_PATH));
	else if (IS("open")) close(open(arg, O_RDONLY));
	else if (IS("opendir")) close(open(arg, O_RDONLY | O_DIRECTORY));
	else if (IS("openat2")) {
		struct open_how how = {.flags = O_RDONLY};
		close(syscall(SYS_openat2, AT_FDCWD, arg, &how, sizeof how));
	} else if (IS("inroot")) {
		struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_IN_ROOT};
		dir = open(arg, O_RDONLY | O_DIRECTORY);
		close(syscall(SYS_openat2, dir, arg2, &how, sizeof how));
		close(dir);
	} else if (IS("raw")) raw(words);
	else if (IS("append")) {
		int fd = open(arg, O_WRONLY | O_APPEND);
		write(fd, "x", 1);
		close(fd);
	} else if (IS("statfs")) statfs(arg, &sf);
	else if (IS("getxattr")) getxattr(arg, "user.x", buffer, sizeof buffer);
	else if (IS("watch")) inotify_add_watch(inotify_init(), arg, IN_ALL_EVENTS);
	else if (IS("connect")) unix_socket(arg);
	else if (IS("chmod")) chmod(arg, 0644);
	else if (IS("chown")) lchown(arg, 0, 0);
	else if (IS("utimes")) utimes(arg, NULL);
	else if (IS("rename")) rename(arg, arg2);
	else if (IS("link")) link(arg, arg2);
	else if (IS("unlink")) unlink(arg);
	else if (IS("mkdir")) mkdir(arg, 0755);
	else if (IS("rmdir")) rmdir(arg);
	else if (IS("symlink")) symlink(arg, arg2);
	else if (IS("at")) {
		dir = open(arg, O_RDONLY | O_DIRECTORY);
		fstatat(dir, arg2, &s, AT_SYMLINK_NOFOLLOW);
		close(dir);
	} else if (IS("byte")) {
		char path[] = "/data/\xff\xfe.bin";
		stat(path, &s);
	} else if (IS("long")) long_path();
	else if (IS("bad")) stat((char *)16, &s);
	else if (IS("many")) open_many(arg, atoi(arg2));
	else if (IS("preempted")) preempted(atoi(arg));
	else if (IS("threads")) threads(atoi(arg));
	else if (IS("list")) {
		DIR *open = opendir(arg);
		chdir(arg);
		for (struct dirent *e; (e = readdir(open));) stat(e->d_name, &s);
	} else if (IS("cat")) cat(arg);
	else if (IS("say")) printf("%s\n", arg), fflush(stdout);
	else if (IS("cry")) fprintf(stderr, "%s\n", arg);
	else if (IS("flood"))
		for (int n = atoi(arg); n > 0; n--) printf("%0127d\n", n);
	else if (IS("env"))
		for (char **e = environ; *e; e++) puts(*e);
	else if (IS("identity")) identity();
	else if (IS("uid")) setgroups(0, NULL), setgid(atoi(arg)), setuid(atoi(arg));
	else if (IS("ids")) printf("%d %d\n", getuid(), geteuid()), fflush(stdout);
	else if (IS("nnp")) printf("nnp %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)), fflush(stdout);
	else if (IS("sleep")) usleep(atoi(arg) * 1000);
	else if (IS("exit")) exit(atoi(arg));
	else if (IS("raise")) raise(atoi(arg));
	else if (IS("handle")) signal(atoi(arg), on_term);
	else if (IS("ignore")) signal(atoi(arg), SIG_IGN);
	else if (IS("block")) {
		sigset_t set;
		sigemptyset(&set);
		sigaddset(&set, atoi(arg));
		sigprocmask(SIG_BLOCK, &set, NULL);
	} else if (IS("ready")) write(1, "ready\n", 6);
	else if (IS("nonblock")) fcntl(2, F_SETFL, O_NONBLOCK | fcntl(2, F_GETFL));
	else if (IS("close")) close(atoi(arg));
	else if (IS("pause")) for (;;) pause();
	else if (IS("sigwait")) {
		sigset_t set;
		sigemptyset(&set);
		sigaddset(&set, atoi(arg));
		sigprocmask(SIG_BLOCK, &set, NULL);
		write(1, "ready\n", 6);
		siginfo_t info;
		sigwaitinfo(&set, &info);
		exit(8);
	} else if (IS("uring")) {
		char parameters[256] = {0};
		show_errno("io_uring", syscall(SYS_io_uring_setup, 1, parameters));
	} else if (IS("leads")) {
		// What a link says, and not a name that was touched.
		ssize_t n = readlink(arg, buffer, sizeof buffer - 1);
		printf("%.*s\n", n < 0 ? 0 : (int)n, buffer), fflush(stdout);
	} else if (IS("adopted")) {
		int ends[2];
		pipe(ends);
		if (fork() == 0) {
			if (fork() == 0) {
				while (getppid() != 1 && dprintf(ends[1], "%s", "") >= 0) usleep(1000);
				_exit(write(ends[1], "orphan of 1\n", 12) != 12);
			}
			_exit(0);
		}
		char text[64] = "";
		read(ends[0], text, sizeof text - 1);
		// Both children are ours to wait for.
		int count = 0;
		while (wait(NULL) > 0) count++;
		printf("%s%d waited for\n", text, count), fflush(stdout);
	} else if (IS("pid")) printf("%d\n", getpid()), fflush(stdout);
	else if (IS("exec")) execv(arg, words + 1), exit(errno);
	else if (IS("spawn")) {
		if (fork() == 0) execv(arg, words + 1), _exit(errno);
		wait(NULL);
	} else if (IS("child")) {
		if (fork() == 0) run(words + 1), _exit(0);
		wait(NULL);
	} else if (IS("orphan")) {
		if (fork() == 0) {
			if (fork() == 0) setsid(), usleep(100000), run(words + 1), _exit(0);
			_exit(0);
		}
		wait(NULL);
	} else if (IS("background")) {
		if (fork() == 0) run(words + 1), _exit(0);
	} else if (IS("thread")) {
		pthread_t thread;
		pthread_create(&thread, NULL, in_thread, words + 1);
		pthread_join(thread, NULL);
	} else fprintf(stderr, "t: no verb %s\n", words[0]), exit(64);
}

int main(int argc, char **argv) {
	for (int from = 1, to = 1; to <= argc; to++) {
		if (to < argc && strcmp(argv[to], ",")) continue;
		argv[to] = NULL;
		if (to > from) run(argv + from);
		from = to + 1;
	}
	return 0;
}
