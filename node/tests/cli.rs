//! The program `starling` as a user meets it: keys, genesis, data directories, and what is said about mistakes.

use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn starling(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_starling"))
        .args(args)
        .current_dir(dir)
        .env("HOME", dir)
        .env_remove("XDG_DATA_HOME")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

fn succeed(dir: &Path, args: &[&str]) -> String {
    let output = starling(dir, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn json(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&succeed(dir, args)).expect("JSON")
}

/// Runs a command that must fail with this code and name all of `parts`; never in the words of a Rust `Debug` or a panic.
fn fail(dir: &Path, args: &[&str], code: i32, parts: &[&str]) {
    let output = starling(dir, args);
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    assert!(output.stdout.is_empty(), "{args:?} printed {:?}", String::from_utf8_lossy(&output.stdout));
    assert!(error.starts_with("error: "), "{error}");
    for part in parts {
        assert!(error.contains(part), "{args:?}: {part:?} is missing from {error:?}");
    }
    for debug in ["panicked", "Err(", "Some(", " { "] {
        assert!(!error.contains(debug), "{args:?}: {error}");
    }
}

fn network(dir: &Path) {
    succeed(dir, &["key", "new", "producer.pem"]);
    succeed(dir, &["genesis", "new", "--name", "local", "--producer-key", "producer.pem", "--out", "genesis.toml"]);
}

#[test]
fn a_network_is_made_in_three_commands() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    network(dir);
    let key = json(dir, &["key", "show", "producer.pem", "--json"]);
    let checked = json(dir, &["genesis", "check", "genesis.toml", "--json"]);
    assert_eq!(checked["name"], "local");
    assert_eq!(checked["slot_ms"], 2_000);
    assert_eq!(checked["producers"][0], key["public_key"]);
    assert!(succeed(dir, &["genesis", "check", "genesis.toml"]).contains("network id"));

    let made = json(dir, &["init", "--genesis", "genesis.toml", "--datadir", "data", "--json"]);
    assert_eq!(made["network_id"], checked["network_id"]);
    assert_eq!((made["made"].as_array().map(Vec::len), made["kept"].as_array().map(Vec::len)), (Some(4), Some(0)));
    let mut again = json(dir, &["init", "--genesis", "genesis.toml", "--datadir", "data", "--json"]);
    assert_eq!((&again["made"], &again["kept"]), (&made["kept"], &made["made"]), "it says what was there");
    for list in ["made", "kept"] {
        again[list] = made[list].clone();
    }
    assert_eq!(again, made, "init changes nothing that is there");
    let text = succeed(dir, &["init", "--genesis", "genesis.toml", "--datadir", "data"]);
    assert!(text.contains("genesis.toml, config.toml, node.pem, account.pem; nothing of it was changed"), "{text}");
    assert!(!text.contains("made  ") && text.contains("starling run --datadir "), "{text}");
    assert_eq!(json(dir, &["key", "show", "data/node.pem", "--json"])["peer_id"], made["peer_id"]);
    for key in ["data/node.pem", "data/account.pem", "producer.pem"] {
        let mode = std::fs::metadata(dir.join(key)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    assert!(dir.join("data/config.toml").is_file());
}

#[test]
fn the_default_data_directory_follows_xdg() {
    let dir = tempfile::tempdir().expect("a directory");
    network(dir.path());
    succeed(dir.path(), &["init", "--genesis", "genesis.toml"]);
    assert!(dir.path().join(".local/share/starling/genesis.toml").is_file());
}

#[test]
fn a_genesis_can_be_made_to_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let key = json(dir, &["key", "new", "a.pem", "--json"]);
    let public = key["public_key"].as_str().expect("text");
    let flags = ["--start", "2027-01-31T12:00:00Z", "--slot", "500ms", "--stamp-bits", "8", "--nonce-window", "9"];
    let text = succeed(dir, &[&["genesis", "new", "--name", "x", "--producer", public], &flags[..]].concat());
    std::fs::write(dir.join("g.toml"), text).expect("written");
    let checked = json(dir, &["genesis", "check", "g.toml", "--json"]);
    assert_eq!(checked["start_time_ms"], 1_801_396_800_000_u64);
    assert_eq!((&checked["slot_ms"], &checked["stamp_bits"]), (&Value::from(500), &Value::from(8)));
    assert_eq!(checked["limits"]["nonce_window"], 9);
}

#[test]
fn openssl_reads_our_keys() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = json(dir.path(), &["key", "new", "a.pem", "--json"]);
    let shown = Command::new("openssl").args(["pkey", "-noout", "-text", "-in"]).arg(dir.path().join("a.pem")).output();
    let Ok(shown) = shown else {
        eprintln!("openssl is not installed; nothing to compare with");
        return;
    };
    let digits: String = String::from_utf8_lossy(&shown.stdout).chars().filter(char::is_ascii_hexdigit).collect();
    assert!(digits.contains(key["public_key"].as_str().expect("text")));
}

#[test]
fn mistakes_are_answered_with_cause_and_remedy() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    network(dir);
    fail(dir, &["key", "new", "producer.pem"], 2, &["exists already"]);
    fail(dir, &["key", "show", "nothing.pem"], 2, &["starling key new nothing.pem"]);
    fail(dir, &["key", "show", "genesis.toml"], 2, &["genesis.toml"]);
    std::fs::set_permissions(dir.join("genesis.toml"), std::fs::Permissions::from_mode(0o644)).expect("set");
    let shown = starling(dir, &["key", "show", "genesis.toml"]);
    assert!(!String::from_utf8_lossy(&shown.stderr).contains("chmod"), "it is no key");
    std::fs::set_permissions(dir.join("producer.pem"), std::fs::Permissions::from_mode(0o644)).expect("set");
    fail(dir, &["key", "show", "producer.pem"], 2, &["0644", "chmod 600 producer.pem"]);
    std::fs::set_permissions(dir.join("producer.pem"), std::fs::Permissions::from_mode(0o600)).expect("set");

    fail(dir, &["genesis", "new", "--name", "x"], 2, &["--producer-key"]);
    let with_key = ["genesis", "new", "--producer-key", "producer.pem", "--name"];
    let new = |flags: &[&'static str]| [&with_key[..], flags].concat();
    fail(dir, &new(&["a b"]), 2, &["name", "letters"]);
    fail(dir, &new(&["x", "--slot", "2"]), 2, &["500ms"]);
    fail(dir, &new(&["x", "--slot", "1ms"]), 2, &["slot_ms", "100"]);
    fail(dir, &new(&["x", "--start", "tomorrow"]), 2, &["RFC 3339"]);
    fail(dir, &new(&["x", "--out", "genesis.toml"]), 2, &["exists already"]);
    fail(dir, &["genesis", "new", "--name", "x", "--producer", "00ff"], 2, &["64 hex digits"]);
    fail(dir, &["genesis", "check", "nothing.toml"], 2, &["nothing.toml"]);
    std::fs::write(dir.join("broken.toml"), "name = ").expect("written");
    fail(dir, &["genesis", "check", "broken.toml"], 2, &["broken.toml", "line 1", "; correct it there"]);
    fail(dir, &["key", "new", "nowhere/a.pem"], 1, &["cannot create the key file", "make its directory first"]);
    fail(dir, &new(&["x", "--out", "nowhere/g.toml"]), 1, &["cannot write nowhere/g.toml", "make its directory first"]);
    let past = starling(dir, &new(&["x", "--start", "2020-01-01T00:00:00Z"]));
    assert!(past.status.success() && String::from_utf8_lossy(&past.stderr).contains("--start lies in the past"));
    fail(dir, &["tx", "get", "zz"], 2, &["a transaction id is written in hex digits"]);
    fail(dir, &["tx", "watch"], 2, &["--sender KEY", "--all"]);
    fail(dir, &["config", "show", "--listen", "127.0.0.1:0"], 2, &["one looks like /ip4/0.0.0.0/tcp/26500\n"]);
    let text = std::fs::read_to_string(dir.join("genesis.toml")).expect("read");
    std::fs::write(dir.join("odd.toml"), format!("color = 1\n{text}")).expect("written");
    fail(dir, &["genesis", "check", "odd.toml"], 2, &["odd.toml", "color"]);

    succeed(dir, &["init", "--genesis", "genesis.toml", "--datadir", "data"]);
    succeed(dir, &[&with_key[..], &["other", "--out", "other.toml"]].concat());
    let mismatch = ["genesis does not match the data directory", "--datadir"];
    fail(dir, &["init", "--genesis", "other.toml", "--datadir", "data"], 2, &mismatch);
    std::fs::write(dir.join("file"), "").expect("written");
    fail(dir, &["init", "--genesis", "genesis.toml", "--datadir", "file/x"], 1, &["file/x"]);
}

#[test]
fn the_configuration_shows_where_each_value_comes_from() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    network(dir);
    succeed(dir, &["init", "--genesis", "genesis.toml", "--instance", "2"]);
    let datadir = dir.join(".local/share/starling-2");
    let config = std::fs::read_to_string(datadir.join("config.toml")).expect("written");
    assert!(config.contains("\ninstance = 2\n") && config.contains("127.0.0.1:26521"), "{config}");

    let shown =
        json(dir, &["config", "show", "--datadir", datadir.to_str().expect("Unicode"), "--threads=2", "--json"]);
    let entry = |key: &str| {
        let entries = shown.as_array().expect("a list");
        entries.iter().find(|entry| entry["key"] == key).unwrap_or_else(|| panic!("no {key}")).clone()
    };
    assert_eq!(entry("rpc.listen")["value"], "127.0.0.1:26521", "the directory remembers its instance");
    assert_eq!(entry("runtime.threads")["origin"], "--threads");
    assert!(entry("instance")["origin"].as_str().expect("text").contains("config.toml:"));
    assert_eq!(entry("keys.account")["value"], datadir.join("account.pem").to_str().expect("Unicode"));

    let text = succeed(dir, &["config", "show", "--instance", "2", "--origin"]);
    assert!(text.contains("target_peers = 24  # default") && text.contains("# --instance"), "{text}");
    let secret = std::fs::read_to_string(datadir.join("account.pem")).expect("a key");
    assert!(!text.contains(secret.lines().nth(1).expect("a line of the key")));
    let differing = succeed(dir, &["config", "diff", "--target-peers", "5"]);
    assert_eq!(differing, "\n[network]\ntarget_peers = 5  # --target-peers\n".trim_start());
}

#[test]
fn init_keeps_what_it_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    network(dir);
    let flags = ["--target-peers", "9", "--flood-publish=false", "--producer-key", "producer.pem"];
    succeed(dir, &[&["init", "--network", "genesis.toml", "--datadir", "data"], &flags[..]].concat());
    let text = succeed(dir, &["config", "diff", "--datadir", "data"]);
    for line in ["target_peers = 9", "flood_publish = false", "producer.pem\"  # "] {
        assert!(text.contains(line), "{line} is missing from {text}");
    }
    assert!(!text.contains("genesis"), "the copy in the directory is the default: {text}");
    assert!(succeed(dir, &["config", "check", "--datadir", "data"]).contains("nothing is wrong"));
    let again = ["init", "--genesis", "genesis.toml", "--datadir", "data", "--target-peers", "8"];
    fail(dir, &again, 2, &["exists already", "network.target_peers", "--target-peers"]);
    succeed(dir, &again[..5]);
    fail(dir, &["init", "--datadir", "other"], 2, &["there is no genesis file", "starling init --genesis FILE"]);
    fail(dir, &["init", "--genesis", "genesis.toml", "--trace", "x"], 2, &["--trace"]);
    fail(dir, &["init", "--genesis", "genesis.toml", "--datadir", "other", "--threads", "0"], 2, &["--threads 0"]);
    assert!(!dir.join("other").exists(), "nothing was made");
}

#[test]
fn every_mistake_in_the_configuration_is_found_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    network(dir);
    succeed(dir, &["init", "--genesis", "genesis.toml", "--datadir", "data"]);
    assert!(succeed(dir, &["config", "check", "--datadir", "data"]).contains("nothing is wrong"));
    assert!(succeed(dir, &["config", "check", "data/config.toml"]).contains("nothing is wrong"));
    let text = "genisis = 1\n[network]\ntarget_peers = 0\n[keys]\nproducer = \"none.pem\"";
    std::fs::write(dir.join("data/config.toml"), text).expect("written");
    let parts = ["3 problems", "config.toml:1: genisis", "`genesis`", "config.toml:3", "between 1 and", "none.pem"];
    fail(dir, &["config", "check", "--datadir", "data"], 2, &parts);
    fail(dir, &["config", "check", "data/config.toml"], 2, &parts);
    fail(dir, &["run", "--datadir", "data"], 2, &["2 settings are wrong", "genisis", "between 1 and"]);
    fail(dir, &["config", "check", "absent.toml"], 2, &["absent.toml", "starling init"]);
    fail(dir, &["config", "check", "data/config.toml", "--datadir", "data"], 2, &["cannot be used with"]);
}

/// What `run` refuses for what settings refer to, `config check` finds, in the same words and with the same code.
#[test]
fn the_check_finds_what_a_run_refuses() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    network(dir);
    succeed(dir, &["init", "--genesis", "genesis.toml", "--datadir", "data"]);
    let text = "[storage]\nkeep_blocks = 5\n[keys]\naccount = \"/nodir/a.pem\"\n[log]\nfile = \"/nodir/log\"\n\
                [rpc]\nadmin_socket = \"/nodir/admin\"\nlisten = \"192.0.2.1:26501\"\n\
                [network]\nlisten = [\"/ip4/192.0.2.1/tcp/26500\", \"/ip4/192.0.2.1/udp/26500/quic-v1\"]";
    std::fs::write(dir.join("data/config.toml"), text).expect("written");
    std::fs::set_permissions(dir.join("data/node.pem"), std::fs::Permissions::from_mode(0o644)).expect("set");
    let parts = [
        "8 problems",
        "keep_blocks = 5: keeping 5 blocks is not enough",
        "/nodir/a.pem\": there is no directory /nodir",
        "/nodir/log\": there is no directory /nodir",
        "/nodir/admin\": there is no directory /nodir",
        "192.0.2.1:26501\": cannot listen there",
        "/ip4/192.0.2.1/tcp/26500: cannot listen there",
        "/ip4/192.0.2.1/udp/26500/quic-v1: cannot listen there",
        "chmod 600",
    ];
    fail(dir, &["config", "check", "--datadir", "data"], 2, &parts);
    fail(dir, &["config", "check", "data/config.toml"], 2, &parts);
    fail(dir, &["run", "--datadir", "data"], 2, &parts);

    // Each alone, as a flag.
    let genesis = ["run", "--genesis", "genesis.toml", "--datadir", "other"];
    for wrong in [
        ["--keep-blocks", "3"],
        ["--admin-socket", "/nodir/a.sock"],
        ["--trace", "/nodir/t"],
        ["--trace", "data"],
        ["--rpc", "192.0.2.1:0"],
        ["--listen", "/ip4/192.0.2.1/tcp/0"],
        ["--account-key", "/nodir/a.pem"],
    ] {
        fail(dir, &[&genesis[..], &wrong].concat(), 2, &[wrong[0]]);
    }
    assert!(!dir.join("other").exists(), "nothing was made");

    // A port that somebody has at present is no mistake of the configuration.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let text = format!("[rpc]\nlisten = \"{}\"\n", taken.local_addr().expect("bound"));
    std::fs::write(dir.join("data/config.toml"), text).expect("written");
    std::fs::set_permissions(dir.join("data/node.pem"), std::fs::Permissions::from_mode(0o600)).expect("set");
    assert!(succeed(dir, &["config", "check", "--datadir", "data"]).contains("nothing is wrong"));
}

#[test]
fn a_misspelt_variable_is_refused_by_every_command_that_reads_one() {
    let dir = tempfile::tempdir().expect("a directory");
    for args in [&["run"][..], &["config", "show"], &["status"], &["init", "--genesis", "genesis.toml"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_starling"))
            .args(args)
            .current_dir(dir.path())
            .env("HOME", dir.path())
            .env("STARLING_DATADRI", "x")
            .output()
            .expect("the program starts");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains("did you mean STARLING_DATADIR?"), "{args:?}: {error}");
    }
}

#[test]
fn a_run_without_a_genesis_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("empty")).expect("made");
    fail(dir.path(), &["run", "--datadir", "empty"], 2, &["there is no genesis file", "--genesis FILE"]);
    fail(dir.path(), &["run", "--datadir", "new"], 2, &["there is no genesis file"]);
    assert_eq!(std::fs::read_dir(dir.path().join("empty")).expect("listed").count(), 0);
    assert!(!dir.path().join("new").exists());
}

#[test]
fn completions_and_manual_pages_know_every_command_and_flag() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = succeed(dir, &["completions", shell]);
        for word in ["target-peers", "log-file", "completions", "starling"] {
            assert!(script.contains(word), "{word} is missing for {shell}");
        }
    }
    fail(dir, &["completions", "tcsh"], 2, &["tcsh", "bash"]);
    let bash = Command::new("bash").args(["-n"]).stdin(Stdio::piped()).spawn().map(|mut child| {
        let script = succeed(dir, &["completions", "bash"]);
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), script.as_bytes()).expect("written");
        child.wait().expect("ends").success()
    });
    assert!(bash.unwrap_or(true), "bash does not read its completions");

    assert!(succeed(dir, &["man"]).contains(".TH starling 1"));
    succeed(dir, &["man", "--out", "pages/man1"]);
    for page in ["starling", "starling-run", "starling-config-show", "starling-tx-send", "starling-completions"] {
        let text = std::fs::read_to_string(dir.join(format!("pages/man1/{page}.1"))).expect(page);
        assert!(text.contains(&format!(".TH {page} 1")), "{text}");
        assert!(text.contains(".SH EXAMPLES\n.nf\n") && !text.contains("SH EXTRA"), "{text}");
    }
    let run = std::fs::read_to_string(dir.join("pages/man1/starling-run.1")).expect("there");
    assert!(run.contains("target\\-peers") && run.contains(".SH EXAMPLES"), "{run}");
    // What is longer than a line of the terminal is filled and not shown as it stands.
    let (shown, prose) = run.split_once("\n.fi\n").expect("examples have an end");
    let shown = shown.split(".nf\n").last().unwrap_or_default();
    assert!(shown.lines().all(|line| line.len() < 120) && shown.contains("starling run"), "{shown}");
    assert!(prose.contains(".PP\nCtrl\\-C, SIGTERM or SIGHUP stops the node cleanly"), "{prose}");
    std::fs::write(dir.join("file"), "").expect("written");
    fail(dir, &["man", "--out", "file/x"], 1, &["cannot write the manual to file/x"]);
    fail(dir, &["man", "--out", "file"], 2, &["it is a file", "name a directory with --out"]);
}

#[test]
fn commands_that_ask_a_node_say_when_there_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    fail(dir, &["status"], 2, &["no node is running", "--rpc"]);
    fail(dir, &["status", "--instance", "2"], 2, &["no node is running", "starling-2"]);
    std::fs::create_dir(dir.join("x")).expect("made");
    let beside = ["no node is running on the data directory", "/x;"];
    fail(dir, &["status", "--instance", "2", "--datadir", "x"], 2, &beside);
    fail(dir, &["status", "--datadir", "y"], 2, &["/y: there is no such data directory"]);
    fail(dir, &["status", "--instance", "2", "--rpc", "127.0.0.1:1"], 2, &["cannot be used with"]);
    fail(dir, &["status", "--rpc", "here"], 2, &["HOST:PORT"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").to_string();
    for command in [&["status"][..], &["peers"], &["block", "get", "1"], &["tx", "send", "hello"]] {
        fail(dir, &[command, &["--rpc", &free]].concat(), 1, &["cannot reach a node's RPC", "is the node running"]);
    }
    fail(dir, &["block", "get", "many", "--rpc", &free], 2, &["names no block"]);
    fail(dir, &["tx", "get", "00"], 2, &["64 hex digits"]);
    fail(dir, &["tx", "send", "--hex", "0x00", "--rpc", &free], 2, &["--hex", "without a prefix"]);
    fail(dir, &["tx", "send", "--file", "nothing", "--rpc", &free], 2, &["nothing"]);
    fail(dir, &["tx", "send"], 2, &["TEXT", "--hex", "--file", "standard input"]);
    let empty = ["the payload is empty", "--allow-empty"];
    fail(dir, &["tx", "send", "", "--rpc", &free], 2, &empty);
    fail(dir, &["tx", "send", "--hex", "", "--rpc", &free], 2, &empty);
    fail(dir, &["tx", "send", "-", "--rpc", &free], 2, &empty);
    fail(dir, &["tx", "send", "", "--allow-empty", "--rpc", &free], 1, &["cannot reach"]);
    fail(dir, &["tx", "send", "x", "--key", "a.pem", "--expires-in", "0", "--rpc", &free], 2, &["--expires-in"]);
    fail(dir, &["tx", "send", "--file", "/dev/zero", "--rpc", &free], 2, &["/dev/zero", "more than 16 MiB"]);
}

#[test]
fn usage_errors_have_code_2_and_help_has_code_0() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    fail(dir, &["fly"], 2, &["fly"]);
    fail(dir, &["init", "--genesi", "x"], 2, &["--genesis"]);
    fail(dir, &["run", "--targt-peers", "x"], 2, &["--target-peers"]);
    assert!(succeed(dir, &["--help"]).contains("Examples:"));
    assert!(succeed(dir, &["tx", "send", "--help"]).contains("starling tx send hello"));
    assert!(succeed(dir, &["--version"]).starts_with("starling "));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_starling"))
        .args(["genesis", "check", "--help"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A server that does with each connection what `serve` does, until the test ends.
fn server(serve: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|mut stream| serve(&mut stream)));
    address
}

/// An HTTP server that answers every request with this.
fn answers(status: &'static str, body: String) -> String {
    use std::io::{Read as _, Write as _};
    server(move |stream| {
        // Small requests come in one piece.
        let _request = stream.read(&mut [0; 4_096]);
        let length = body.len();
        let _gone = write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
    })
}

#[test]
fn what_answers_but_is_no_node_is_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let no_node = ["does not speak starling's RPC", "check the address and the version"];
    let page = answers("200 OK", "<html>hello</html>".into());
    let missing = answers("404 Not Found", "nothing here".into());
    let empty = answers("200 OK", r#"{"jsonrpc":"2.0","id":0,"result":{}}"#.into());
    let nested = answers("200 OK", "[".repeat(100_000));
    for address in [&page, &missing, &empty, &nested] {
        for command in [&["status"][..], &["peers"], &["block", "watch"], &["tx", "send", "hello"]] {
            let no_node = if command[0] == "peers" && *address == empty { &no_node[..1] } else { &no_node[..] };
            fail(dir, &[command, &["--rpc", address]].concat(), 1, no_node);
        }
    }
    let closes = server(|_stream| ());
    fail(dir, &["status", "--rpc", &closes], 1, &["cannot reach a node's RPC", "is the node running"]);
    let garbage = server(|stream| {
        let _gone = std::io::Write::write_all(stream, &[0xff; 1_000]);
    });
    fail(dir, &["status", "--rpc", &garbage], 1, &[&garbage]);
    let doctor = starling(dir, &["doctor", "--rpc", &page]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("does not speak starling's RPC"));
}

#[test]
fn another_node_at_the_address_of_a_killed_one_is_not_taken_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let rpc = answers("200 OK", r#"{"jsonrpc":"2.0","id":0,"result":{"peer_id":"12D3KooWOther"}}"#.into());
    std::fs::create_dir(dir.join("sa")).expect("made");
    let stale = format!(r#"{{"peer_id":"12D3KooWKilled","listen":[],"rpc":"{rpc}","pid":1}}"#);
    std::fs::write(dir.join("sa/addresses.json"), stale).expect("written");
    let id = "00".repeat(32);
    let parts = [&rpc, "is not that of the data directory", "/sa but 12D3KooWOther", "--datadir DIR"];
    for command in [
        &["status"][..],
        &["health"],
        &["health", "--ready"],
        &["peers"],
        &["mempool", "list"],
        &["block", "get", "1"],
        &["block", "watch"],
        &["tx", "send", "hello"],
        &["tx", "get", &id],
        &["tx", "watch", &id],
        &["tx", "watch", "--all"],
    ] {
        fail(dir, &[command, &["--datadir", "sa"]].concat(), 2, &parts);
    }
}

#[test]
fn answers_of_a_newer_node_with_unknown_fields_are_understood() {
    let dir = tempfile::tempdir().expect("a directory");
    let block_id = "00".repeat(32);
    let head = format!(
        r#"{{"jsonrpc":"2.0","id":0,"result":{{"height":0,"block_id":"{block_id}","slot":0,"slot_now":9,"colour":"red"}}}}"#
    );
    let newer = answers("200 OK", head);
    // That the block is not there is learnt only from an answer that was understood.
    fail(dir.path(), &["block", "get", "head", "--rpc", &newer], 1, &["does not speak"]);
    let none = answers("200 OK", r#"{"jsonrpc":"2.0","id":0,"result":[],"colour":"red"}"#.into());
    assert_eq!(succeed(dir.path(), &["peers", "--json", "--rpc", &none]), "[]\n");
}

#[test]
fn arguments_that_are_no_text_are_refused_by_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let odd = OsStr::from_bytes(b"h\xffllo");
    for args in [&["tx", "send"][..], &["block", "get"], &["peers", "show"], &["status", "--rpc"], &[]] {
        let output = Command::new(env!("CARGO_BIN_EXE_starling"))
            .args(args)
            .arg(odd)
            .current_dir(dir.path())
            .env("HOME", dir.path())
            .output()
            .expect("the program starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.starts_with("error: ") && !error.contains("panicked"), "{error}");
    }
    // A path need not be text.
    let output = Command::new(env!("CARGO_BIN_EXE_starling"))
        .args([OsStr::new("key"), OsStr::new("show"), odd])
        .current_dir(dir.path())
        .output()
        .expect("the program starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no key file"));
}

#[test]
fn a_wrong_word_is_answered_with_the_nearest_right_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    fail(dir, &["statsu"], 2, &["status"]);
    fail(dir, &["peers", "shwo"], 2, &["show"]);
    fail(dir, &["block", "wacth"], 2, &["watch"]);
    fail(dir, &["peers", "--sort", "rrt"], 2, &["rtt", "score"]);
    fail(dir, &["status", "--watch", "0"], 2, &["1..=86400"]);
    fail(dir, &["tx", "watch", "00", "--timeout", "5"], 2, &["64 hex digits"]);
    fail(dir, &["tx", "watch", &"00".repeat(32), "--timeout", "5"], 2, &["such as"]);
}
