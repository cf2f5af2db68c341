//! What commands that go on have in common: they end when they are interrupted, and when nobody reads their output; and
//! they survive a restart of the node.

use super::ask::failed;
use super::output::{self, Audience};
use super::{Failure, NodeArgs, block_on};
use crate::rpc::client::{ClientError, RpcClient};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often a quiet watcher looks whether somebody still reads its output.
const AUDIENCE_INTERVAL: Duration = Duration::from_millis(250);

/// How long to wait before a node that did not answer is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);

/// The exit code of a command that was interrupted before it knew its answer: 128 and the number of SIGINT, as shells do.
pub(super) const INTERRUPTED: u8 = 130;

/// How watching ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End<T> {
    /// By itself.
    Done(T),
    /// SIGINT or SIGTERM.
    Interrupted,
    /// The other end of the pipe was closed.
    Unread,
}

/// Runs `watching` until it is done, a signal comes, or nobody reads standard output.
pub(super) fn watch<T>(watching: impl Future<Output = Result<End<T>, Failure>>) -> Result<End<T>, Failure> {
    block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::runtime)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::runtime)?;
        let unread = async {
            while output::audience() == Audience::There {
                tokio::time::sleep(AUDIENCE_INTERVAL).await;
            }
        };
        tokio::select! {
            ended = watching => ended,
            _ = interrupt.recv() => Ok(End::Interrupted),
            _ = terminate.recv() => Ok(End::Interrupted),
            () = unread => Ok(End::Unread),
        }
    })
}

/// A node that is asked again and again. Once it has answered, it is waited for when it does not: it may be restarting,
/// and may then listen at another port.
#[derive(Debug)]
pub(super) struct Steady<'a> {
    node: &'a NodeArgs,
    client: RpcClient,
    /// Whether it has ever answered.
    reached: bool,
    /// Whether the last question was not answered.
    lost: bool,
}

impl<'a> Steady<'a> {
    /// The node that is meant; nothing is asked yet.
    pub(super) fn new(node: &'a NodeArgs) -> Result<Self, Failure> {
        Ok(Self { node, client: node.client()?, reached: false, lost: false })
    }

    /// Asks until there is an answer; tells on standard error when the node is gone and when it is back.
    ///
    /// # Errors
    /// If the node refuses, something else than a node answers, or the node cannot be reached at the first question.
    pub(super) async fn ask<T>(
        &mut self,
        question: impl AsyncFn(&RpcClient) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        loop {
            match question(&self.client).await {
                Ok(answer) => {
                    if self.lost {
                        output::note("the node answers again");
                    }
                    (self.reached, self.lost) = (true, false);
                    return Ok(answer);
                }
                Err(error) if self.reached && is_gone(&error) => {
                    if !self.lost {
                        output::note(&format!("the node is gone; waiting for it to come back ({error})"));
                    }
                    self.lost = true;
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    // Without its file of addresses it has not started yet.
                    if let Ok(client) = self.node.client() {
                        self.client = client;
                    }
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

/// Whether the node that was asked is not there: it cannot be reached, or another one has its address.
fn is_gone(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Timeout(_) | ClientError::OtherNode { .. })
}
