//! Settings from files and flags, and what is refused.

use super::*;
use starling_protocol::genesis::{GenesisParameters, Limits};

fn genesis_with(producers: &[SecretKey]) -> Genesis {
    Genesis::new(GenesisParameters {
        name: "test".into(),
        start_time_ms: 1_700_000_000_000,
        slot_ms: 1_000,
        producers: producers.iter().map(|key| key.public_key().to_bytes()).collect(),
        limits: Limits::default(),
        stamp_bits: 0,
    })
    .expect("acceptable")
}

fn datadir() -> (tempfile::TempDir, SecretKey) {
    let dir = tempfile::tempdir().expect("a directory");
    let producer = keyfile::generate().expect("entropy");
    keyfile::create(&dir.path().join("producer.pem"), &producer).expect("made");
    std::fs::write(dir.path().join("genesis.toml"), genesis_with(std::slice::from_ref(&producer)).to_toml())
        .expect("written");
    (dir, producer)
}

fn load(dir: &Path, flags: ConfigFile) -> Result<Settings, ConfigError> {
    Settings::load(dir, flags, &RunFlags::default())
}

#[test]
fn a_directory_with_a_genesis_is_enough() {
    let (dir, _) = datadir();
    let settings = load(dir.path(), ConfigFile::default()).expect("settings");
    assert_eq!(settings.rpc.listen, "127.0.0.1:26501".parse().expect("an address"));
    assert_eq!(settings.listen.len(), 2);
    assert!(settings.producer_key.is_none());
    let again = load(dir.path(), ConfigFile::default()).expect("settings");
    assert_eq!(again.node_key.public_key(), settings.node_key.public_key(), "keys are kept");
    assert_ne!(settings.account_key.public_key(), settings.node_key.public_key(), "and differ");

    let run = RunFlags { instance: 3, ..RunFlags::default() };
    let third = Settings::load(dir.path(), ConfigFile::default(), &run).expect("settings");
    assert_eq!(third.rpc.listen.port(), 26_531);
    assert_eq!(third.listen[0].to_string(), "/ip4/0.0.0.0/tcp/26530");
}

#[test]
fn the_file_is_read_and_flags_go_before_it() {
    let (dir, producer) = datadir();
    let text = "[network]\ntarget_peers = 7\nmax_peers = 9\n[keys]\nproducer = \"producer.pem\"\n[rpc]\nlisten = \"127.0.0.1:0\"";
    std::fs::write(dir.path().join("config.toml"), text).expect("written");
    let network = NetworkSection { target_peers: Some(8), ..NetworkSection::default() };
    let settings = load(dir.path(), ConfigFile { network, ..ConfigFile::default() }).expect("settings");
    assert_eq!((settings.target_peers, settings.max_peers), (8, 9));
    assert_eq!(settings.producer_key.expect("a producer").public_key(), producer.public_key());
    assert_eq!(settings.rpc.listen.port(), 0);
}

#[test]
fn wrong_values_name_the_setting_and_the_remedy() {
    let (dir, _) = datadir();
    let network = |section| load(dir.path(), ConfigFile { network: section, ..ConfigFile::default() });
    let refused = |result: Result<Settings, ConfigError>, parts: &[&str]| {
        let error = result.expect_err("refused").to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is missing from {error:?}");
        }
    };
    let default = NetworkSection::default;
    refused(
        network(NetworkSection { bootnodes: Some(vec!["/ip4/127.0.0.1/tcp/1".into()]), ..default() }),
        &["--bootnodes", "append /p2p/PEER_ID"],
    );
    refused(
        network(NetworkSection { trusted_peers: Some(vec!["127.0.0.1:1".into()]), ..default() }),
        &["--trusted-peers", "no multiaddress"],
    );
    refused(
        network(NetworkSection { listen: Some(vec!["/dns4/example.org/tcp/1".into()]), ..default() }),
        &["--listen", "cannot listen on"],
    );
    refused(network(NetworkSection { listen: Some(Vec::new()), ..default() }), &["at least one"]);
    refused(network(NetworkSection { target_peers: Some(0), ..default() }), &["--target-peers", "between 1 and"]);
    refused(
        network(NetworkSection { target_peers: Some(9), max_peers: Some(8), ..default() }),
        &["--max-peers", "less than the target"],
    );
    let rpc = RpcSection { allow_origins: Some(vec!["*".into()]), ..RpcSection::default() };
    refused(load(dir.path(), ConfigFile { rpc, ..ConfigFile::default() }), &["--rpc-allow-origin", "https://"]);
    let log = LogSection { filter: Some("a=b=c".into()), ..LogSection::default() };
    refused(load(dir.path(), ConfigFile { log, ..ConfigFile::default() }), &["log filter", "such as"]);
    let run = RunFlags { instance: 201, ..RunFlags::default() };
    refused(Settings::load(dir.path(), ConfigFile::default(), &run), &["--instance", "200"]);
}

#[test]
fn a_missing_genesis_and_a_stranger_as_producer_are_refused() {
    let empty = tempfile::tempdir().expect("a directory");
    let error = load(empty.path(), ConfigFile::default()).expect_err("no genesis").to_string();
    assert!(error.contains("starling init --genesis FILE"), "{error}");

    let (dir, _) = datadir();
    let stranger = dir.path().join("stranger.pem");
    keyfile::create(&stranger, &keyfile::generate().expect("entropy")).expect("made");
    let keys = KeysSection { producer: Some(stranger), ..KeysSection::default() };
    let error = load(dir.path(), ConfigFile { keys, ..ConfigFile::default() }).expect_err("no producer").to_string();
    assert!(error.contains("not among the producers"), "{error}");
}
