//! Settings from files, variables and flags, and what is refused.

use super::*;
use starling_protocol::genesis::{GenesisParameters, Limits};
use starling_protocol::node::NodeConfig;

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

/// What `starling run` does with these flags and variables.
fn load(dir: &Path, flags: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let (values, problems) = layers(dir, flags, variables).resolve(None)?;
    if problems.is_empty() { Settings::from_values(&values) } else { Err(ConfigError::Settings(problems)) }
}

fn layers(dir: &Path, flags: &[(&str, &str)], variables: &[(&str, &str)]) -> Layers {
    let datadir = (table::setting("datadir"), dir.to_str().expect("Unicode").to_owned());
    let named = |(flag, text): &(&str, &str)| {
        let setting = table::SETTINGS.iter().find(|setting| setting.flag == *flag).expect("a flag");
        (setting, (*text).to_owned())
    };
    Layers {
        flags: std::iter::once(datadir).chain(flags.iter().map(named)).collect(),
        variables: variables.iter().map(|(name, text)| (name.into(), text.into())).collect(),
    }
}

#[test]
fn the_table_is_consistent() {
    let mut names = std::collections::BTreeSet::new();
    let mut sections = Vec::new();
    for setting in table::SETTINGS {
        for name in [setting.key.to_owned(), format!("--{}", setting.flag), setting.variable()] {
            assert!(names.insert(name.clone()), "{name} is declared twice");
        }
        assert!(setting.help.ends_with('.') && !setting.help.contains('\n'), "{}", setting.key);
        assert!(setting.needs.is_none_or(|needed| table::SETTINGS.iter().any(|other| other.key == needed)));
        assert!(!setting.variable().starts_with("STARLING_TEST"), "{} would be ignored", setting.variable());
        if let DefaultValue::Unset { example, .. } = setting.default {
            setting.kind.parse_text(example).expect("the example is right");
        }
        if sections.last() != Some(&setting.section()) {
            sections.push(setting.section());
        }
    }
    let distinct: std::collections::BTreeSet<_> = sections.iter().collect();
    assert_eq!(distinct.len(), sections.len(), "the settings of a section stand together: {sections:?}");
    assert!(table::RULES.iter().all(|rule| rule.looks_at.iter().all(|key| table::setting(key).key == *key)));
}

#[test]
fn the_documentation_has_the_table() {
    const BEGIN: &str =
        "<!-- settings: from the table in node/src/config/table.rs; UPDATE_DOCS=1 cargo test writes it -->\n";
    const END: &str = "<!-- end of settings -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CLI.md");
    let text = std::fs::read_to_string(path).expect("read");
    let begin = text.find(BEGIN).expect("a place for the table") + BEGIN.len();
    let end = begin + text[begin..].find(END).expect("an end of the table");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let updated = format!("{}{}{}", &text[..begin], markdown(), &text[end..]);
        std::fs::write(path, updated).expect("written");
        return;
    }
    assert!(
        text[begin..end] == markdown(),
        "the settings in docs/CLI.md are not those of the table; \
         `UPDATE_DOCS=1 cargo test -p starling-node --lib config` writes them"
    );
}

#[test]
fn the_template_says_nothing_and_without_comment_signs_the_defaults() {
    for instance in [0_u16, 3] {
        let flags = vec![(table::setting("instance"), instance.to_string())];
        let none = FileLayer::default();
        let (given, _) = Layers { flags, ..Layers::default() }.resolve_over(&none, Path::new("/d"));
        let text = template(&given);
        let path = Path::new("/d/config.toml");
        let (values, problems) = Layers::default().resolve_over(&FileLayer::parse(path, &text), Path::new("/d"));
        assert_eq!(problems, []);
        let given: Vec<_> = values.all().iter().filter(|entry| entry.origin != Origin::Default).collect();
        assert_eq!(given.len(), usize::from(instance != 0), "only a number other than 0 is remembered");

        let active: String = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let (all, problems) = Layers::default().resolve_over(&FileLayer::parse(path, &active), Path::new("/d"));
        assert_eq!(problems, []);
        for (entry, default) in all.all().iter().zip(values.all()) {
            let setting = entry.setting;
            assert_eq!(entry.origin == Origin::Default, !setting.in_file, "{} is missing", setting.key);
            if !matches!(setting.default, DefaultValue::Unset { .. }) {
                assert_eq!(entry.value, default.value, "{}", setting.key);
            }
        }
    }
}

#[test]
fn a_directory_with_a_genesis_is_enough() {
    let (dir, _) = datadir();
    let settings = load(dir.path(), &[], &[]).expect("settings");
    assert_eq!(settings.rpc.listen, "127.0.0.1:26501".parse().expect("an address"));
    assert_eq!(settings.listen.len(), 2);
    assert!(settings.producer_key.is_none());
    assert_eq!((settings.target_peers, settings.max_peers), (24, 192));
    let again = load(dir.path(), &[], &[]).expect("settings");
    assert_eq!(again.node_key.public_key(), settings.node_key.public_key(), "keys are kept");
    assert_ne!(settings.account_key.public_key(), settings.node_key.public_key(), "and differ");

    let third = load(dir.path(), &[("instance", "3")], &[]).expect("settings");
    assert_eq!(third.rpc.listen.port(), 26_531);
    assert_eq!(third.listen[0].to_string(), "/ip4/0.0.0.0/tcp/26530");
}

#[test]
fn an_instance_moves_the_data_directory_and_every_default_port() {
    let home = || Some(PathBuf::from("/home/starling"));
    let at = |layers: Layers| layers.datadir(home()).expect("a place");
    assert_eq!(at(Layers::default()), Path::new("/home/starling"));
    let second = Layers { variables: vec![("STARLING_INSTANCE".into(), "2".into())], ..Layers::default() };
    assert_eq!(at(second.clone()), Path::new("/home/starling-2"));
    let named = Layers { flags: vec![(table::setting("datadir"), "/d".into())], ..second };
    assert_eq!(at(named), Path::new("/d"));
    assert!(matches!(Layers::default().datadir(None), Err(ConfigError::NoHome)));

    let ports = |instance: u16| {
        let digits = |entry: &Effective| entry.value.as_ref().map(Value::to_toml).unwrap_or_default();
        let flags = vec![(table::setting("instance"), instance.to_string())];
        let (values, _) = Layers { flags, ..Layers::default() }.resolve_over(&FileLayer::default(), Path::new("/d"));
        let moving = |entry: &&Effective| matches!(entry.setting.default, DefaultValue::PerInstance(_));
        values.all().iter().filter(moving).map(digits).collect::<Vec<_>>()
    };
    for (first, last) in ports(0).iter().zip(ports(INSTANCE_MAX)) {
        assert_ne!(*first, last);
    }
    let none = Layers::default().resolve_over(&FileLayer::default(), Path::new("/d")).0;
    for entry in none.all() {
        let shown = entry.value.as_ref().map(Value::to_toml).unwrap_or_default();
        let moves = matches!(entry.setting.default, DefaultValue::PerInstance(_));
        assert!(moves || !shown.contains("265"), "{} has a port that does not move", entry.setting.key);
    }
}

#[test]
fn flags_go_before_variables_before_the_file_before_defaults() {
    let (dir, producer) = datadir();
    let text = "[network]\ntarget_peers = 7\nmax_peers = 99\nflood_publish = false\n\
                [keys]\nproducer = \"producer.pem\"\n[rpc]\nlisten = \"127.0.0.1:0\"";
    std::fs::write(dir.path().join("config.toml"), text).expect("written");
    let settings = load(dir.path(), &[], &[]).expect("settings");
    assert_eq!((settings.target_peers, settings.max_peers, settings.flood_publish), (7, 99, false));
    assert_eq!(settings.producer_key.expect("a producer").public_key(), producer.public_key());
    assert_eq!(settings.rpc.listen.port(), 0);

    let variables = [("STARLING_TARGET_PEERS", "8"), ("STARLING_FLOOD_PUBLISH", "true"), ("PATH", "x")];
    let settings = load(dir.path(), &[], &variables).expect("settings");
    assert_eq!((settings.target_peers, settings.max_peers, settings.flood_publish), (8, 99, true));
    let settings = load(dir.path(), &[("target-peers", "9")], &variables).expect("settings");
    assert_eq!(settings.target_peers, 9);
    assert_eq!(settings.suspect_after_slots, NodeConfig::default().suspect_after_slots);
    let settings = load(dir.path(), &[("suspect-after-slots", "40")], &[]).expect("settings");
    assert_eq!(settings.suspect_after_slots, 40);

    let (values, _) = layers(dir.path(), &[("target-peers", "9")], &variables).resolve(None).expect("read");
    let origin = |key| values.get(key).origin_text();
    assert_eq!(origin("network.target_peers"), "--target-peers");
    assert_eq!(origin("network.flood_publish"), "STARLING_FLOOD_PUBLISH");
    assert_eq!(origin("network.max_peers"), format!("{}:3", dir.path().join("config.toml").display()));
    assert_eq!(origin("log.filter"), "default");
}

#[test]
fn wrong_values_name_the_layer_the_value_and_the_remedy() {
    let (dir, _) = datadir();
    for (flag, text, expected) in [
        ("bootnodes", "/ip4/127.0.0.1/tcp/1", "append /p2p/PEER_ID"),
        ("trusted-peers", "127.0.0.1:1", "no multiaddress"),
        ("listen", "/dns4/example.org/tcp/1", "cannot listen on"),
        ("listen", "", "at least one address"),
        ("rpc", "localhost", "127.0.0.1:26501"),
        ("target-peers", "0", "between 1 and"),
        ("target-peers", "many", "no whole number"),
        ("suspect-after-slots", "0", "between 1 and 86400"),
        ("flood-publish", "perhaps", "neither true nor false"),
        ("rpc-allow-origin", "*", "https://"),
        ("rpc-allow-origin", "ftp://wallet.example", "https://"),
        ("rpc-allow-origin", "https://wallet.example/", "without a path"),
        ("rpc-allow-origin", "https://user@wallet.example", "no origin"),
        ("rpc-allow-origin", "https://a b", "no origin"),
        ("rpc-allow-origin", "https://*.example", "names more than one"),
        ("rpc-allow-origin", "https://Wallet.Example", "as https://wallet.example;"),
        ("rpc-allow-origin", "https://wallet.example:443", "as https://wallet.example;"),
        ("rpc-allow-origin", "http://wallet.example:080", "as http://wallet.example;"),
        ("rpc-allow-host", "http://x", "without a scheme"),
        ("rpc-allow-host", "192.0.2.10:80", "without a scheme or port"),
        ("rpc-allow-host", "[2001:db8::1]", "2001:db8::1"),
        ("log-filter", "a=b=c", "such as"),
        ("log-format", "xml", "none of text, json"),
        ("instance", "201", "between 0 and 200"),
        ("genesis", "", "path is empty"),
    ] {
        let variable = table::SETTINGS.iter().find(|setting| setting.flag == flag).expect("a flag").variable();
        let as_flag = load(dir.path(), &[(flag, text)], &[]).expect_err("refused").to_string();
        assert!(as_flag.starts_with(&format!("--{flag} ")) && as_flag.contains(expected), "{as_flag}");
        let as_variable = load(dir.path(), &[], &[(&variable, text)]).expect_err("refused").to_string();
        assert!(as_variable.starts_with(&format!("{variable}=")) && as_variable.contains(expected), "{as_variable}");
    }
}

#[test]
fn contradictions_name_both_sides() {
    let (dir, _) = datadir();
    std::fs::write(dir.path().join("config.toml"), "[network]\nmax_peers = 8").expect("written");
    let error = load(dir.path(), &[("target-peers", "9")], &[]).expect_err("refused").to_string();
    assert!(error.contains("config.toml:2: network.max_peers = 8: less than the target (--target-peers 9)"), "{error}");
    let error = load(dir.path(), &[("target-peers", "0")], &[]).expect_err("refused").to_string();
    assert!(!error.contains("less than"), "a value that is wrong by itself is not compared: {error}");
}

#[test]
fn unknown_variables_are_refused_with_the_nearest_known_one() {
    let (dir, _) = datadir();
    let variables = [("STARLING_TARGET_PEER", "1"), ("STARLING_QQQQ", "x"), ("STARLING_TEST_ROUNDS", "5")];
    let error = load(dir.path(), &[("threads", "0")], &variables).expect_err("refused").to_string();
    assert!(error.starts_with("3 settings are wrong:\n"), "{error}");
    assert!(
        error.contains("STARLING_TARGET_PEER: ") && error.contains("did you mean STARLING_TARGET_PEERS?"),
        "{error}"
    );
    assert!(error.contains("STARLING_QQQQ: there is no such environment variable; unset it"), "{error}");
    assert!(error.contains("--threads 0: ") && !error.contains("ROUNDS"), "{error}");
}

#[test]
fn a_missing_genesis_and_a_stranger_as_producer_are_refused() {
    let empty = tempfile::tempdir().expect("a directory");
    let error = load(empty.path(), &[], &[]).expect_err("no genesis").to_string();
    assert!(error.contains("starling init --genesis FILE"), "{error}");
    assert_eq!(std::fs::read_dir(empty.path()).expect("listed").count(), 0, "nothing was made");

    let (dir, _) = datadir();
    let stranger = dir.path().join("stranger.pem");
    keyfile::create(&stranger, &keyfile::generate().expect("entropy")).expect("made");
    let error = load(dir.path(), &[("producer-key", stranger.to_str().expect("Unicode"))], &[]);
    let error = error.expect_err("no producer").to_string();
    assert!(error.contains("--producer-key") && error.contains("not among the producers"), "{error}");
}

#[test]
fn the_defaults_as_they_are_shown_are_a_configuration() {
    let path = Path::new("/d/config.toml");
    let read = |text: &str| Layers::default().resolve_over(&FileLayer::parse(path, text), Path::new("/d"));
    let (defaults, _) = read("");
    let (again, problems) = read(&show(&defaults.all().iter().collect::<Vec<_>>(), true));
    assert_eq!(problems, []);
    for (entry, default) in again.all().iter().zip(defaults.all()) {
        assert_eq!(entry.value, default.value, "{}", entry.setting.key);
    }
}

/// A value that a setting takes, from a random number.
fn some_value(setting: &Setting, random: u64) -> Value {
    let between = |min: u64, max: u64| min + random % (max - min).saturating_add(1).max(1);
    match setting.kind {
        Kind::Bool => Value::Bool(random.is_multiple_of(2)),
        Kind::Count { min, max } => Value::Count(between(min, max)),
        Kind::Bytes { min, max } => Value::Bytes(between(min, max)),
        Kind::Duration { min, max } => {
            let ms = |length: std::time::Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
            Value::Duration(std::time::Duration::from_millis(between(ms(min), ms(max))))
        }
        Kind::Path => Value::Path(format!("/d/{random} \"ü\\.x").into()),
        Kind::Choice(words) => Value::Text(words[usize::try_from(random).unwrap_or(0) % words.len()].into()),
        Kind::Text(check) => ["127.0.0.1:7", "info", "warn,a=debug", "7", "extip:192.0.2.7"]
            .into_iter()
            .find(|text| check(text).is_ok())
            .map(|text| Value::Text(text.into()))
            .unwrap_or_else(|| panic!("no example for {}", setting.key)),
        Kind::List(check) => {
            let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
            let known = [
                format!("/ip4/127.0.0.1/tcp/{}/p2p/{peer}", random % 65_536),
                format!("/ip4/127.0.0.1/tcp/{}", random % 65_536),
                format!("https://x{random}.example"),
                format!("x{random}"),
            ];
            Value::List(known.into_iter().filter(|text| check(text).is_ok()).collect())
        }
    }
}

proptest::proptest! {
    /// What `config show` prints, read as the file, has the same effect; so has each value as text on the command line.
    #[test]
    fn what_is_shown_reads_back(random in proptest::collection::vec(proptest::prelude::any::<u64>(), table::SETTINGS.len())) {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (setting, random) in table::SETTINGS.iter().zip(&random).filter(|(setting, _)| setting.in_file) {
            if !setting.section().is_empty() && !text.contains(&format!("[{}]", setting.section())) {
                let _infallible = writeln!(text, "[{}]", setting.section());
            }
            let _infallible = writeln!(text, "{} = {}", setting.name(), some_value(setting, *random).to_toml());
        }
        let path = Path::new("/d/config.toml");
        let read = |text: &str| Layers::default().resolve_over(&FileLayer::parse(path, text), Path::new("/d"));
        let (values, problems) = read(&text);
        // Numbers at random may contradict each other; each alone is right.
        for problem in problems {
            proptest::prop_assert!(problem.problem.contains("less than"), "{}", problem);
        }
        let all: Vec<&Effective> = values.all().iter().collect();
        for origin in [false, true] {
            let (again, _) = read(&show(&all, origin));
            for (entry, shown) in all.iter().zip(again.all()) {
                proptest::prop_assert_eq!(&entry.value, &shown.value, "{}", entry.setting.key);
            }
        }
    }
}

#[test]
fn a_peer_that_cannot_be_dialled_or_looked_up_is_refused_with_the_remedy() {
    let (dir, _) = datadir();
    let peer = "12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4";
    let given = |text: &str| load(dir.path(), &[("bootnodes", text)], &[]).map(|settings| settings.bootnodes);
    for good in ["/dnsaddr/boot.example", "/dns4/boot.example/tcp/1", "/ip6/2001:db8::1/udp/1/quic-v1"] {
        let text = format!("{good}/p2p/{peer}");
        assert_eq!(given(&text).expect("valid")[0].to_string(), text);
    }
    for (wrong, part) in [
        ("/dnsaddr/boot.example".to_owned(), "append /p2p/PEER_ID"),
        (format!("/dnsaddr/_dnsaddr.boot.example/p2p/{peer}"), "write /dnsaddr/boot.example"),
        (format!("/dnsaddr/boot..example/p2p/{peer}"), "no host name"),
        (format!("/dns/boot example/tcp/1/p2p/{peer}"), "no host name"),
        (format!("/dnsaddr/p2p/{peer}"), "no multiaddress"),
        (format!("/dnsaddr/boot.example/p2p/{}", &peer[1..]), "no multiaddress"),
        (format!("/dns/boot.example/p2p/{peer}"), "cannot be dialled"),
        (format!("/ip4/192.0.2.1/tcp/1/ws/p2p/{peer}"), "cannot be dialled"),
        (format!("/ip4/192.0.2.1/tcp/0/p2p/{peer}"), "cannot be dialled"),
    ] {
        let error = given(&wrong).expect_err(&wrong).to_string();
        assert!(error.contains(part) && error.contains("--bootnodes"), "{error}");
    }
    let error = load(dir.path(), &[("dns-servers", "dns.example")], &[]).expect_err("a name").to_string();
    assert!(error.contains("--dns-servers") && error.contains("as in 192.0.2.53"), "{error}");
}
