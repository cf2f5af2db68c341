//! What the driver keeps on the disk about peers: the address book and the bans.

use super::Driver;
use crate::api::{BanCommand, BanReply, Refusal, RefusalReason, Reply, UnbanReply, target_text};
use crate::clock;
use crate::storage::{DataDir, Keeper};
use starling_protocol::peers::bans::{Ban, BanTarget};
use starling_protocol::peers::eviction::Newcomer;
use std::path::PathBuf;
use std::time::Duration;

/// Where these files are, and who writes them.
#[derive(Debug)]
pub struct Keeping {
    /// The data directory.
    pub datadir: PathBuf,
    /// The thread that writes.
    pub keeper: Keeper,
}

impl Driver {
    pub(super) fn ban_command(&mut self, command: BanCommand) {
        match command {
            BanCommand::Ban { target, duration, reason, reply } => self.ban(target, duration, reason, reply),
            BanCommand::Unban { target, reply } => {
                let before = self.bans_before();
                let was_banned = self.node.unban(target);
                self.tell_bans(before);
                let answer = UnbanReply { target: target_text(&target), was_banned };
                self.bans_changed(answer, reply);
            }
            BanCommand::List { reply } => {
                let unix_s = clock::unix_s();
                let bans = self.node.bans().iter().map(|ban| BanReply::new(ban, unix_s));
                let _asker_gone = reply.send(bans.collect());
            }
        }
    }

    fn ban(&mut self, target: BanTarget, duration: Duration, reason: String, reply: Reply<Result<BanReply, Refusal>>) {
        if target == BanTarget::Peer(self.port.network.own_id()) {
            let refusal = Refusal::new(RefusalReason::Ban, "this is the node's own peer id", "name another peer");
            return drop(reply.send(Err(refusal)));
        }
        let unix_s = clock::unix_s();
        let ban = Ban { target, until_unix_s: unix_s.saturating_add(duration.as_secs()), reason };
        let now = clock::now();
        let mut outputs = Vec::new();
        let before = self.bans_before();
        if let Err(error) = self.node.ban(now, ban.clone(), &mut outputs) {
            let text = error.to_string();
            let (cause, remedy) = text.split_once("; ").unwrap_or((&text, "change the request"));
            return drop(reply.send(Err(Refusal::new(RefusalReason::Ban, cause, remedy))));
        }
        self.tell_bans(before);
        tracing::info!(target = target_text(&target), for_s = duration.as_secs(), reason = ban.reason, "banned");
        self.bans_changed(BanReply::new(ban, unix_s), reply);
        self.carry_out(now, outputs);
    }

    /// Enforces the bans as they are now, writes them down, and answers when that is done.
    fn bans_changed<T: Send + 'static>(&mut self, answer: T, reply: Reply<Result<T, Refusal>>) {
        let bans = self.node.bans();
        self.port.network.set_bans(bans.clone());
        let path = DataDir::bans_file(&self.keeping.datadir);
        let (bytes, shown) = (bans.to_file(), path.display().to_string());
        let done = move |written: std::io::Result<()>| {
            let answer = written.map(|()| answer).map_err(|error| {
                tracing::error!(path = shown, %error, "the bans could not be written; they hold until the node stops");
                Refusal::new(
                    RefusalReason::Storage,
                    format!("the change holds, but {shown} could not be written: {error}"),
                    "make room on the disk and repeat the command, or the change is forgotten when the node stops",
                )
            });
            let _asker_gone = reply.send(answer);
        };
        self.keeping.keeper.write(path, bytes, Box::new(done));
    }

    /// Names who makes room for a newcomer of each kind, if one would find none.
    pub(super) fn name_evictable(&mut self) {
        self.port.network.set_acquaintances(self.node.acquaintances());
        for newcomer in [Newcomer::Stranger, Newcomer::Acquaintance] {
            if !self.port.network.is_full(newcomer) {
                continue;
            }
            let peer = self.node.evictable(clock::now(), newcomer);
            if let Some(id) = peer.and_then(|peer| self.node.peer_id(peer)) {
                self.port.network.set_evictable(newcomer, &id);
            }
        }
    }

    /// Drops bans that have ended.
    pub(super) fn expire_bans(&mut self) {
        let before = self.bans_before();
        if self.node.expire_bans(clock::now()) {
            self.tell_bans(before);
            self.port.network.set_bans(self.node.bans().clone());
        }
    }

    /// Writes the address book.
    pub(super) fn save_peers(&self) {
        let path = DataDir::peers_file(&self.keeping.datadir);
        let shown = path.display().to_string();
        let done = move |written: std::io::Result<()>| {
            if let Err(error) = written {
                tracing::warn!(path = shown, %error, "the address book could not be written; a restart would begin with the former one");
            }
        };
        self.keeping.keeper.write(path, self.node.peers_file(), Box::new(done));
    }
}
