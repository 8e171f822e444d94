//! Ledger: the names of everything we asked an engine to make, written down before the request leaves.
//!
//! A request runs as a task of its own, so that a caller who is interrupted half-way leaves no request
//! in flight that nobody waits for: the sweep first waits for those tasks, then removes what they made.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Something an engine made for us. The order is the order of removal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Made {
    /// A container, by the name that we chose.
    Container(String),
    /// A volume, by name.
    Volume(String),
    /// A reference of ours that keeps an image alive while we need it.
    Tag(String),
    /// An image by ID that was not there before.
    Image(String),
}

/// What was made and what is being made.
#[derive(Default)]
pub(super) struct Ledger {
    made: Mutex<BTreeSet<Made>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Cancelled when a sweep begins; long requests end then.
    give_up: Mutex<CancellationToken>,
}

/// Time that a sweep waits for a request that is still under way.
const PATIENCE: Duration = Duration::from_secs(30);

impl Ledger {
    /// Writes a name down.
    pub(super) fn add(&self, made: Made) {
        lock(&self.made).insert(made);
    }

    /// Strikes a name out: it is gone, or no longer ours.
    pub(super) fn strike(&self, made: &Made) {
        lock(&self.made).remove(made);
    }

    /// Everything that is written down, containers first.
    pub(super) fn list(&self) -> Vec<Made> {
        lock(&self.made).iter().cloned().collect()
    }

    /// Runs a request that makes something; it goes on when the caller is dropped.
    pub(super) async fn make<T, F>(&self, request: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (send, receive) = oneshot::channel();
        let task = tokio::spawn(async move {
            // Nobody listening means that the caller was dropped; the sweep takes care of what was made.
            let _ = send.send(request.await);
        });
        {
            let mut tasks = lock(&self.tasks);
            tasks.retain(|task| !task.is_finished());
            tasks.push(task);
        }
        receive.await.context("a request to the engine was abandoned")?
    }

    /// As [`Ledger::make`], for a request that takes long and that the engine ends when we hang up.
    pub(super) async fn make_or_give_up<T, F>(&self, request: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let given_up = lock(&self.give_up).clone();
        let request = async move {
            tokio::select! {
                result = request => result,
                () = given_up.cancelled() => Err(anyhow!("given up")),
            }
        };
        self.make(request).await
    }

    /// A body that breaks off when a sweep begins, so that the engine does not take it for whole.
    pub(super) fn until_given_up(&self, body: BoxStream<'static, Bytes>) -> BoxStream<'static, io::Result<Bytes>> {
        let given_up = lock(&self.give_up).clone();
        let torn = futures_util::stream::once(given_up.cancelled_owned()).map(|()| Err(io::Error::other("given up")));
        // The end of the body ends the stream; only an earlier end of waiting tears it.
        let whole = body.map(|bytes| Some(Ok(bytes))).chain(futures_util::stream::iter([None]));
        let both = futures_util::stream::select(whole, torn.map(Some));
        both.take_while(|item| std::future::ready(item.is_some())).filter_map(std::future::ready).boxed()
    }

    /// Waits until no request is under way any more; ends the long ones.
    pub(super) async fn settle(&self) -> Result<()> {
        std::mem::take(&mut *lock(&self.give_up)).cancel();
        let tasks: Vec<_> = lock(&self.tasks).drain(..).collect();
        for task in tasks {
            let stop = task.abort_handle();
            if tokio::time::timeout(PATIENCE, task).await.is_err() {
                stop.abort();
                return Err(anyhow!("a request to the engine did not end within {} s", PATIENCE.as_secs()));
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn a_request_whose_caller_was_dropped_is_waited_for() {
        let ledger = Arc::new(Ledger::default());
        let go = Arc::new(Notify::new());
        let (made, wait) = (Arc::new(Mutex::new(false)), go.clone());
        let (result, inner) = (made.clone(), ledger.clone());
        let caller = tokio::spawn(async move {
            inner
                .make(async move {
                    wait.notified().await;
                    *lock(&result) = true;
                    Ok(())
                })
                .await
        });
        tokio::task::yield_now().await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        go.notify_one();
        ledger.settle().await.unwrap();
        assert!(*lock(&made));
    }

    #[tokio::test]
    async fn a_body_ends_whole_or_torn() {
        let ledger = Ledger::default();
        let pieces = || futures_util::stream::iter(["a", "b"].map(Bytes::from));
        let whole: Vec<_> = ledger.until_given_up(pieces().boxed()).collect().await;
        assert_eq!(whole.into_iter().collect::<io::Result<Vec<_>>>().unwrap(), ["a", "b"]);
        let endless = pieces().chain(futures_util::stream::pending());
        let mut torn = ledger.until_given_up(endless.boxed());
        assert_eq!(torn.next().await.unwrap().unwrap(), "a");
        ledger.settle().await.unwrap();
        assert!(torn.any(|piece| std::future::ready(piece.is_err())).await);
    }

    #[test]
    fn containers_are_removed_before_what_they_use() {
        let ledger = Ledger::default();
        ledger.add(Made::Image("i".into()));
        ledger.add(Made::Volume("v".into()));
        ledger.add(Made::Tag("t".into()));
        ledger.add(Made::Container("c".into()));
        let order: Vec<_> = ledger.list();
        assert!(matches!(order[..], [Made::Container(_), Made::Volume(_), Made::Tag(_), Made::Image(_)]));
    }
}
