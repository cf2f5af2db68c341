//! Weaker engines, as controls: configurations of the same engine, without a line of code of their own.
//!
//! A control that loses messages shows that an attack is an attack. What the configurations cannot take away is what the engine never
//! does: it refuses grafts of those who dialled it while its mesh is full, it asks one announcer after the other rather than all at
//! once, and three invalid messages end a connection. So these controls are stronger than what they are named after.

use crate::sim::Engine;
use starling_protocol::mesh::MeshConfig;
use starling_protocol::mesh::promises::PromiseConfig;
use starling_protocol::mesh::score::TimeInMeshConfig;

/// Gossipsub as it was before scoring (v1.0): a random mesh, announcements to six peers, no scores, no outbound quota, no
/// preference for near peers, no IDONTWANT.
pub const GOSSIPSUB_1_0: Engine = Engine { name: "gossipsub 1.0", configure: gossipsub_1_0 };
/// Every message is pushed to about the square root of the peers and announced to nobody, the push half of what Ethereum's execution
/// layer does (devp2p, eth/68, "Transaction Exchange").
pub const SQUARE_ROOT_PUSH: Engine = Engine { name: "square-root push", configure: square_root_push };
/// Every message is pushed to all peers.
pub const FLOODSUB: Engine = Engine { name: "floodsub", configure: floodsub };

/// The controls.
pub const CONTROLS: [Engine; 3] = [GOSSIPSUB_1_0, SQUARE_ROOT_PUSH, FLOODSUB];

fn gossipsub_1_0(config: &mut MeshConfig) {
    without_scores(config);
    config.degree.target = 6;
    config.degree.low = 4;
    config.degree.high = 12;
    config.degree.lazy = 6;
    config.gossip.factor_percent = 0;
    config.heartbeat.interval = core::time::Duration::from_secs(1);
    config.promise = PromiseConfig::classic();
}

fn square_root_push(config: &mut MeshConfig) {
    without_scores(config);
    // About the square root of 40 to 120 peers.
    config.degree.target = 8;
    config.degree.low = 7;
    config.degree.high = 9;
    without_announcements(config);
}

fn floodsub(config: &mut MeshConfig) {
    without_scores(config);
    config.degree.target = 128;
    config.degree.low = 128;
    config.degree.high = 128;
    without_announcements(config);
}

fn without_announcements(config: &mut MeshConfig) {
    config.degree.lazy = 0;
    config.gossip.factor_percent = 0;
    // What a newcomer to the mesh is told, too.
    config.gossip.ihave_ids_max = 0;
}

fn without_scores(config: &mut MeshConfig) {
    config.degree.score = 0;
    config.degree.outbound = 0;
    config.degree.near = 0;
    config.heartbeat.opportunistic_ticks = u64::MAX;
    config.heartbeat.nearer_ticks = 0;
    config.relay.flood_publish = false;
    config.trial.messages = 0;
    config.relay.idontwant_bytes_min = usize::MAX;
    let score = &mut config.score;
    for topic in score.topics.iter_mut().chain([&mut score.other_topics]) {
        topic.time_in_mesh = TimeInMeshConfig::OFF;
        topic.first_deliveries.weight = 0.0;
        topic.mesh_deliveries.weight = 0.0;
        topic.mesh_failure.weight = 0.0;
    }
    score.colocation.weight = 0.0;
    score.behaviour.weight = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_protocol::id::Topic;
    use starling_protocol::mesh::TopicConfig;

    #[test]
    fn controls_are_valid_configurations() {
        for engine in CONTROLS {
            let topic = TopicConfig { topic: Topic::new("topic"), priority: false };
            let mut config = MeshConfig::with_topics(vec![topic]);
            (engine.configure)(&mut config);
            let refused = config.validate().err();
            assert_eq!(refused, None, "{}", engine.name);
        }
    }
}
