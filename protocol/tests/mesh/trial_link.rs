//! A peer that is tried, step by step.

use crate::bench::{Bench, config, message, topic};
use starling_protocol::id::{Direction, PeerHandle, Version};
use starling_protocol::mesh::{Input, MeshConfig, Verdict};
use starling_protocol::message::Payload;
use starling_protocol::rpc::Frame;
use starling_protocol::time::Duration;
use std::sync::Arc;

/// Between two messages.
pub(crate) const STEP: Duration = Duration::from_millis(50);
/// So many messages long a peer has to be heard to be known.
pub(crate) const FAMILIAR: u32 = 480;
/// Longer than any trial, and than the time between two looks at a peer that is awaited.
pub(crate) const OVER: Duration = Duration::from_millis(1_100);

/// A mesh of four that bring everything, and one that is tried.
pub(crate) struct Link {
    pub(crate) bench: Bench,
    pub(crate) good: Vec<PeerHandle>,
    pub(crate) tried: PeerHandle,
    pub(crate) number: u64,
}

/// How a peer stands still in a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Still {
    /// It says nothing from the beginning of the trial to long after its end.
    Wholly,
    /// It says something when the trial has begun, and nothing after that.
    SpokeFirst,
}

impl Link {
    pub(crate) fn new(config: MeshConfig, seed: u8) -> Self {
        Self::with(Direction::Inbound, config, seed)
    }

    /// With one that has dialled us or that we have dialled.
    pub(crate) fn with(direction: Direction, config: MeshConfig, seed: u8) -> Self {
        let mut bench = Bench::seeded(config, seed);
        bench.input(Input::Subscribe { topic: topic() });
        let good = (0..4).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
        let tried = bench.subscriber_of(direction, Version::V1_2);
        bench.heartbeat();
        bench.take();
        assert_eq!(bench.mesh.mesh_degree(&topic()), 5);
        Self { bench, good, tried, number: 0 }
    }

    /// With somebody who could take the place of who is tried.
    pub(crate) fn with_spare() -> Self {
        let mut link = Self::new(config(), 1);
        link.bench.subscriber();
        link
    }

    /// Something comes from who is tried that brings nothing.
    pub(crate) fn speak(&mut self) {
        self.bench.idontwant_from(self.tried, &message(1_000_000 + self.number));
    }

    /// The others bring a message; whether it is held back from who is tried.
    pub(crate) fn publish(&mut self) -> (Arc<Payload>, bool) {
        self.bench.take();
        self.finish()
    }

    /// The others bring the next message, and it is accepted.
    pub(crate) fn finish(&mut self) -> (Arc<Payload>, bool) {
        let payload = message(self.number);
        self.number += 1;
        self.good.iter().for_each(|peer| self.bench.publish_from(*peer, &payload));
        self.bench.judge(Verdict::Accept);
        let held = self.in_mesh() && self.bench.copies_to(self.tried, &payload) == 0;
        (payload, held)
    }

    /// For so long messages come, and nothing from who is tried.
    pub(crate) fn silence(&mut self, duration: Duration) {
        for _ in 0..duration.as_millis() / STEP.as_millis() {
            self.publish();
            self.bench.pass(STEP);
        }
    }

    /// Messages come until one is held back from who is tried, which speaks until then; how many, and the last of them.
    pub(crate) fn until_held(&mut self) -> (u32, Arc<Payload>) {
        for count in 1..200 {
            self.speak();
            let (payload, held) = self.publish();
            if held {
                return (count, payload);
            }
            self.bench.pass(STEP);
        }
        panic!("it is not tried");
    }

    /// It passes a trial; how many messages it took to begin.
    pub(crate) fn pass_trial(&mut self) -> u32 {
        let (count, payload) = self.until_held();
        self.bench.publish_from(self.tried, &payload);
        count
    }

    /// It fails in a trial: it is there and brings nothing.
    pub(crate) fn fail_trial(&mut self) {
        self.until_held();
        self.speak();
        self.bench.pass(OVER);
    }

    /// It stands still in a trial, and goes on without having brought anything.
    pub(crate) fn stand_still(&mut self, still: Still) {
        self.until_held();
        self.bench.pass(STEP);
        if still == Still::SpokeFirst {
            self.publish();
            self.speak();
        }
        self.silence(Duration::from_millis(650));
    }

    pub(crate) fn go_on(&mut self) {
        self.speak();
        // Where no message comes, time stands still, and no other trial begins.
        self.bench.pass(OVER);
    }

    /// It is the first to bring a message.
    pub(crate) fn bring(&mut self) {
        self.bench.take();
        self.bench.publish_from(self.tried, &message(self.number));
        self.finish();
    }

    /// It brings a copy of a message that it was not sent, because it said that it need not be.
    pub(crate) fn bring_copy(&mut self) {
        let next = message(self.number);
        self.bench.idontwant_from(self.tried, &next);
        self.publish();
        self.bench.publish_from(self.tried, &next);
    }

    pub(crate) fn in_mesh(&self) -> bool {
        self.bench.in_mesh(self.tried)
    }

    /// The backoff in the PRUNE that it was sent since the last message, if it was.
    pub(crate) fn pruned_for_s(&self) -> Option<u64> {
        let backoff = |frame| if let Frame::Prune(prune) = frame { prune.backoff_seconds } else { None };
        self.bench.frames_to(self.tried).into_iter().find_map(backoff)
    }
}
