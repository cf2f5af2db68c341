//! What the node is asked, answered from the machine's state and, for what is older, from the disk.

use super::Driver;
use super::readiness::{self, Facts};
use super::stored::storage_trouble;
use crate::api::{
    AccountReply, BlockReply, BlockSelector, ClockState, Command, ExternalAddress, HeadReply, MempoolPage,
    MempoolReply, NetReply, NodeReply, PeerDirection, PeerReply, PendingReply, ReadyReply, Refusal, RefusalReason,
    Reply, ScoreReply, Submitted, SyncReply, TopicReply, TopicScoreReply, TransactionBody, TransactionReply,
    TransactionSource, TransactionStatus,
};
use crate::clock;
use crate::net::network::peer_id_text;
use crate::storage::{StorageThread, Store, StoreError};
use starling_crypto::PublicKeyBytes;
use starling_protocol::block::Block;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{Direction, Topic, TransactionId, Version};
use starling_protocol::mempool::{MempoolError, Source, Status};
use starling_protocol::mesh::PeerView;
use starling_protocol::node::{self, Input, SubmitError};
use starling_protocol::transaction::{Transaction, TransactionError};

impl Driver {
    pub(super) fn command(&mut self, command: Command) {
        // Whoever asked may have stopped waiting; then the answer goes nowhere.
        match command {
            Command::SubmitTransaction { transaction, reply } => {
                let ticket = self.ticket();
                self.submissions.insert(ticket, reply);
                self.feed(Input::Submit { ticket, bytes: &transaction });
            }
            Command::PublishPayload { payload, reply } => {
                let ticket = self.ticket();
                self.submissions.insert(ticket, reply);
                self.feed(Input::SubmitPayload { ticket, payload: &payload });
            }
            Command::TransactionStatus { id, reply } => self.transaction_status(id, reply),
            Command::Account { public_key, reply } => drop(reply.send(self.account(public_key))),
            Command::MempoolInfo { reply } => drop(reply.send(self.mempool_info())),
            Command::MempoolList { after, limit, reply } => drop(reply.send(self.mempool_list(after.as_ref(), limit))),
            Command::ChainHead { reply } => drop(reply.send(self.chain_head())),
            Command::Block { block, reply } => self.block(block, reply),
            Command::Peers { reply } => drop(reply.send(self.peers())),
            Command::NetInfo { reply } => drop(reply.send(self.net_info())),
            Command::NodeInfo { reply } => drop(reply.send(self.node_info())),
            Command::Ready { reply } => drop(reply.send(self.ready())),
            Command::Bans(command) => self.ban_command(command),
            Command::Subscribe { topic, reply } => self.subscribe(topic, reply),
            Command::Shutdown { reply } => {
                let _asker_gone = reply.send(());
                self.stopping = true;
                if let Some(asked) = self.stop_watched.take() {
                    let _unwatched = asked.send(());
                }
            }
        }
    }

    fn transaction_status(&self, id: TransactionId, reply: Reply<Result<TransactionReply, Refusal>>) {
        let status = match self.node.transaction_status(&id) {
            node::TransactionStatus::Pending => TransactionStatus::Pending,
            node::TransactionStatus::Expired => TransactionStatus::Expired,
            node::TransactionStatus::Superseded => TransactionStatus::Superseded,
            node::TransactionStatus::Included(location) => TransactionStatus::Included {
                height: location.height,
                block_id: location.block,
                index: location.position,
            },
            node::TransactionStatus::Unknown => return self.stored_transaction(id, reply),
        };
        let transaction = match &status {
            TransactionStatus::Included { block_id, index, .. } => {
                self.node.chain().block(block_id).and_then(|block| block.transactions().get(*index as usize))
            }
            _ => self.node.mempool().get(&id),
        };
        let transaction = transaction.map(TransactionBody::from);
        drop(reply.send(Ok(TransactionReply { id, status, transaction })));
    }

    /// Looks a transaction up on the disk, where older inclusions are.
    fn stored_transaction(&self, id: TransactionId, reply: Reply<Result<TransactionReply, Refusal>>) {
        let genesis = self.node.genesis().clone();
        self.ask_storage(reply, move |store| {
            let Some(location) = store.transaction(id)? else {
                return Ok(TransactionReply { id, status: TransactionStatus::Unknown, transaction: None });
            };
            let block = stored_block(store, location.block, &genesis)?;
            let transaction = block.as_ref().and_then(|block| block.transactions().get(location.position as usize));
            let status = TransactionStatus::Included {
                height: location.height,
                block_id: location.block,
                index: location.position,
            };
            Ok(TransactionReply { id, status, transaction: transaction.map(TransactionBody::from) })
        });
    }

    fn block(&self, selector: BlockSelector, reply: Reply<Result<Option<BlockReply>, Refusal>>) {
        let chain = self.node.chain();
        let in_memory = match selector {
            BlockSelector::Height(height) => chain.block_at(height),
            BlockSelector::Id(id) => chain.block(&id),
        };
        if let Some(block) = in_memory {
            let canonical = chain.is_canonical(&block.id());
            return drop(reply.send(Ok(Some(BlockReply::new(block, canonical)))));
        }
        let genesis = self.node.genesis().clone();
        self.ask_storage(reply, move |store| {
            let id = match selector {
                BlockSelector::Height(height) => store.canonical(height)?,
                BlockSelector::Id(id) => Some(id),
            };
            let Some(id) = id else { return Ok(None) };
            let Some(block) = stored_block(store, id, &genesis)? else { return Ok(None) };
            let canonical = store.canonical(block.header().height)? == Some(id);
            Ok(Some(BlockReply::new(&block, canonical)))
        });
    }

    fn ask_storage<T: Send + 'static>(
        &self,
        reply: Reply<Result<T, Refusal>>,
        question: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) {
        let asked = self.storage.ask(reply, move |store, reply| {
            // Nobody waits for what is read for an asker who has gone, and what is to be stored waits behind it.
            if !reply.is_closed() {
                let answer = question(store).map_err(|error| {
                    Refusal::new(RefusalReason::Storage, error.to_string(), "check the disk and the node's log")
                });
                let _asker_gone = reply.send(answer);
            }
        });
        if let Err(reply) = asked {
            let cause = "too many questions wait for the disk";
            let refusal = Refusal::new(RefusalReason::Overloaded, cause, "try again in a moment");
            let _asker_gone = reply.send(Err(refusal));
        }
    }

    fn account(&self, public_key: PublicKeyBytes) -> AccountReply {
        let slot = self.slot_now();
        let included = self.node.next_nonce(&public_key, slot).unwrap_or(0);
        let next_nonce = self.node.next_free_nonce(&public_key, slot);
        let pending = self.node.mempool().count_of(&public_key);
        AccountReply { public_key, next_nonce, next_nonce_included: included, pending: count(pending) }
    }

    fn mempool_info(&self) -> MempoolReply {
        let pool = self.node.mempool();
        let (stats, config) = (pool.stats(), pool.config());
        MempoolReply {
            transactions: stats.transactions as u64,
            transactions_future: stats.future as u64,
            transactions_max: config.transactions_max as u64,
            held_bytes: stats.bytes as u64,
            held_bytes_max: config.bytes_max as u64,
        }
    }

    fn mempool_list(&self, after: Option<&TransactionId>, limit: usize) -> MempoolPage {
        let pool = self.node.mempool();
        let slot = self.slot_now();
        let mut page = pool.page(after);
        let entry = |(transaction, arrival_slot): (&Transaction, u64)| {
            let id = transaction.id();
            let source = match pool.source(&id) {
                Some(Source::Reorganisation) => TransactionSource::Reorganisation,
                Some(Source::Peer(_) | Source::Restored) => TransactionSource::Peer,
                Some(Source::Local) | None => TransactionSource::Local,
            };
            PendingReply {
                id,
                sender: transaction.sender(),
                nonce: transaction.nonce(),
                expiry_slot: transaction.expiry_slot(),
                age_slots: (source != TransactionSource::Reorganisation).then(|| slot.saturating_sub(arrival_slot)),
                encoded_bytes: transaction.encoded_len() as u64,
                executable: pool.status(&id) == Some(Status::Pending { executable: true }),
                source,
            }
        };
        let transactions: Vec<PendingReply> = page.by_ref().take(limit).map(entry).collect();
        let next = page.next().and(transactions.last()).map(|last| last.id);
        MempoolPage { transactions, next, total: pool.len() as u64 }
    }

    fn chain_head(&self) -> HeadReply {
        let head = self.node.chain().head();
        HeadReply { height: head.height, block_id: head.id, slot: head.slot, slot_now: self.slot_now() }
    }

    fn peers(&self) -> Vec<PeerReply> {
        let mut peers: Vec<PeerReply> = self.node.mesh().peer_views().iter().map(|view| self.peer(view)).collect();
        peers.sort_by(|a, b| a.peer_id.cmp(&b.peer_id));
        peers
    }

    fn peer(&self, view: &PeerView) -> PeerReply {
        let seat = self.agents.get(view.handle.index()).and_then(Option::as_ref);
        let seat = seat.filter(|seat| seat.peer == view.handle);
        let classes = |topics: &[Topic]| topics.iter().map(|topic| self.observer.class(topic)).collect();
        let score = &view.score;
        let (frame_in_bytes, frame_out_bytes) = self.port.network.traffic_bytes(view.handle).unwrap_or_default();
        PeerReply {
            peer_id: peer_id_text(&view.id),
            address: self.port.network.remote_address(view.handle).map(|a| a.to_string()).unwrap_or_default(),
            direction: match view.direction {
                Direction::Inbound => PeerDirection::Inbound,
                Direction::Outbound => PeerDirection::Outbound,
            },
            protocol: match view.version {
                Version::V1_0 => "/meshsub/1.0.0",
                Version::V1_1 => "/meshsub/1.1.0",
                Version::V1_2 => "/meshsub/1.2.0",
            }
            .to_owned(),
            agent: seat.and_then(|seat| seat.agent.clone()),
            connected_s: seat.map_or(0, |seat| clock::now().since(seat.since).as_secs()),
            rtt_ms: view.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            subscribed: classes(&view.subscribed),
            mesh: classes(&view.mesh),
            queue_bytes: self.port.network.queue_stats(view.handle).map_or(0, |(bytes, _)| bytes as u64),
            frame_in_bytes,
            frame_out_bytes,
            score: ScoreReply {
                total: plain(score.total),
                topics: self
                    .node
                    .mesh()
                    .topics()
                    .zip(&score.topics)
                    .map(|((topic, _), parts)| TopicScoreReply {
                        class: self.observer.class(topic),
                        time_in_mesh: plain(parts.time_in_mesh),
                        first_deliveries: plain(parts.first_deliveries),
                        mesh_deficit: plain(parts.mesh_deliveries),
                        mesh_failures: plain(parts.mesh_failure),
                        invalid_messages: plain(parts.invalid),
                    })
                    .collect(),
                application: plain(score.application),
                ip_colocation: plain(score.colocation),
                behaviour: plain(score.behaviour),
            },
        }
    }

    fn topics(&self) -> Vec<TopicReply> {
        let mesh = self.node.mesh();
        let topic = |topic: &Topic| TopicReply {
            class: self.observer.class(topic),
            topic: topic.to_string(),
            mesh_degree: count(mesh.mesh_degree(topic)),
            mesh_degree_low: count(mesh.degree_low()),
            peers_subscribed: count(mesh.topic_peers(topic)),
        };
        mesh.topics().map(|(name, _)| topic(name)).collect()
    }

    fn net_info(&mut self) -> NetReply {
        let (inbound, outbound) = self.port.network.connections();
        let peers_known = count(self.port.network.table_size());
        let own = peer_id_text(&self.port.network.own_id());
        let (sockets, frames) = (self.port.network.socket_counters(), self.port.network.mesh_counters());
        NetReply {
            listen_addresses: self
                .port
                .network
                .listening()
                .iter()
                .map(|address| format!("{address}/p2p/{own}"))
                .collect(),
            external_addresses: self
                .port
                .network
                .reach()
                .into_iter()
                .map(|(address, reach)| ExternalAddress { address: address.to_string(), verdict: reach.into() })
                .collect(),
            peer_id: own,
            peers_inbound: count(inbound),
            peers_outbound: count(outbound),
            peers_target: count(self.peers_target),
            peers_max: count(self.peers_max),
            peers_known,
            topics: self.topics(),
            socket_in_bytes: sockets.read_bytes(),
            socket_out_bytes: sockets.written_bytes(),
            frame_in_bytes: frames.read_bytes(),
            frame_out_bytes: frames.written_bytes(),
        }
    }

    fn node_info(&self) -> NodeReply {
        let genesis = self.node.genesis();
        NodeReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network_name: genesis.name().to_owned(),
            network_id: genesis.network_id(),
            peer_id: peer_id_text(&self.port.network.own_id()),
            account: self.node.account(),
            producer: self.node.producer(),
            producer_elsewhere_slot: self.node.key_elsewhere(),
            pid: std::process::id(),
            uptime_s: clock::now().since(self.started).as_secs(),
            slot_now: self.slot_now(),
            slot_ms: genesis.slot_us() / 1_000,
            payload_bytes_max: u64::from(genesis.limits().payload_bytes_max),
            stamp_bits: genesis.stamp_bits(),
            expiry_slots_max: genesis.limits().expiry_slots_max,
        }
    }

    /// Whether the node does its work, and what it waits for if not.
    pub(super) fn ready(&self) -> ReadyReply {
        let facts = self.facts();
        let waiting = readiness::waiting(&facts);
        ReadyReply {
            ready: waiting.is_empty(),
            reasons: waiting.iter().map(|waiting| waiting.reason).collect(),
            waiting_for: waiting.into_iter().map(|waiting| waiting.text).collect(),
            peers: count(facts.peers.connected),
            topics: facts.topics,
            height: self.node.chain().head().height,
            sync: facts.sync,
            storage: facts.storage,
            disk: self.disk_reply(),
            clock: facts.clock,
        }
    }

    fn facts(&self) -> Facts {
        let stats = self.node.peer_stats();
        Facts {
            storage: self.storage_state(),
            clock: self.clock_state(),
            peers: readiness::Peers {
                connected: stats.connected,
                dialling: stats.dialling,
                known: stats.known,
                unreachable: self.unreachable.len(),
                itself: self.named_itself,
            },
            topics: self.topics(),
            sync: self.sync(),
            unheard: self.node.sync_progress(clock::now()).unheard,
            silent_slots: self.node.silent_slots(clock::now()),
        }
    }

    /// How catching up goes; none when nobody is known to be ahead.
    fn sync(&self) -> Option<SyncReply> {
        let progress = self.node.sync_progress(clock::now());
        let behind = (progress.peer.is_some() || progress.waiting) && progress.height < progress.target;
        // A rate of the last seconds says nothing of what comes while nothing is being fetched.
        let fetching = progress.state != starling_protocol::sync::SyncState::Idle
            && !self.node.storage().import_paused
            && self.node.peer_stats().connected > 0;
        behind.then(|| SyncReply {
            state: progress.state.into(),
            from: progress.from,
            height: progress.height,
            target: progress.target,
            blocks_per_s: Some(plain(progress.blocks_per_second)).filter(|rate| fetching && *rate > 0.0),
            remaining_s: progress.remaining.filter(|_| fetching).map(|remaining| remaining.as_secs()),
            peers: count(progress.peers),
            requests: count(progress.requests),
        })
    }

    fn clock_state(&self) -> ClockState {
        let genesis = self.node.genesis();
        if self.unix_us_at_zero == 0 {
            return ClockState::Unset;
        }
        let now = clock::now();
        let unix_us = self.unix_us_at_zero.saturating_add(now.as_micros());
        match genesis.slot_at(unix_us) {
            Some(_) => {
                let early = self.observer.early.behind(self.node.peer_stats().connected);
                let behind = early.map(|early| ClockState::Behind { seconds: early.as_secs().max(1) });
                let stepped = self.wall_clock.step(now).map(|step| ClockState::Stepped { by_ms: step.by_us / 1_000 });
                behind.or(stepped).unwrap_or_default()
            }
            None => ClockState::BeforeStart { seconds: genesis.slot_start(0).saturating_sub(unix_us) / 1_000_000 },
        }
    }

    pub(super) fn slot_now(&self) -> u64 {
        self.node.slot(clock::now()).unwrap_or(0)
    }
}

/// The RPC's form of how a submission ended.
pub(super) fn submitted(
    result: Result<node::Submitted, SubmitError>,
    storage: &StorageThread,
) -> Result<Submitted, Refusal> {
    match result {
        Ok(node::Submitted { id, message, nonce }) => Ok(Submitted { id, message_id: message.to_string(), nonce }),
        Err(error) => {
            if error == SubmitError::Storage
                && let Some((cause, remedy)) = storage_trouble(storage)
            {
                return Err(Refusal::new(RefusalReason::Storage, cause, remedy));
            }
            let text = error.to_string();
            // The machine's messages give cause and remedy in one sentence, with a semicolon between.
            let (cause, remedy) =
                text.split_once("; ").unwrap_or((&text, "correct the transaction and submit it again"));
            Err(Refusal::new(reason(&error), cause, remedy))
        }
    }
}

fn reason(error: &SubmitError) -> RefusalReason {
    match error {
        SubmitError::BadSignature => RefusalReason::BadSignature,
        SubmitError::NoAccountKey => RefusalReason::NoAccountKey,
        SubmitError::Overloaded => RefusalReason::Overloaded,
        SubmitError::Storage => RefusalReason::Storage,
        SubmitError::Transaction(error) => match error {
            TransactionError::Encoding(_) => RefusalReason::Malformed,
            TransactionError::Network { .. } => RefusalReason::WrongNetwork,
            TransactionError::PayloadTooLong { .. } => RefusalReason::PayloadTooLarge,
            TransactionError::Stamp { .. } | TransactionError::StampNotFound { .. } => RefusalReason::WrongStamp,
            TransactionError::Expired { .. } => RefusalReason::Expired,
            TransactionError::ExpiryTooFar { .. } => RefusalReason::ExpiryTooFar,
            TransactionError::Sender(_) | TransactionError::Signature(_) => RefusalReason::BadSignature,
        },
        SubmitError::Mempool(error) => match error {
            MempoolError::Known => RefusalReason::AlreadyKnown,
            MempoolError::Expired { .. } => RefusalReason::Expired,
            MempoolError::ExpiryTooFar { .. } => RefusalReason::ExpiryTooFar,
            MempoolError::NonceUsed { .. } | MempoolError::NonceTaken { .. } => RefusalReason::NonceUsed,
            MempoolError::NonceGap { .. } | MempoolError::NonceExhausted => RefusalReason::NonceTooFar,
            MempoolError::SenderQuota { .. } | MempoolError::Full { .. } => RefusalReason::MempoolFull,
        },
    }
}

fn stored_block(
    store: &Store,
    id: starling_protocol::id::BlockId,
    genesis: &Genesis,
) -> Result<Option<Block>, StoreError> {
    // What was stored was valid; a block that cannot be decoded any more counts as not there.
    Ok(store.block(id)?.and_then(|stored| Block::decode(stored.bytes, genesis).ok()))
}

pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Minus zero, as a weight times nothing gives it, would only puzzle readers.
pub(super) fn plain(value: f64) -> f64 {
    value + 0.0
}
