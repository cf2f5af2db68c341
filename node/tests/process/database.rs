//! `starling db`, as an operator uses it: on good and on bad files, beside a running node, killed, and without room.

use crate::lab::{Done, Lab, eventually, wait_for};
use serde_json::Value;
use starling_node::storage::{Store, StoreError};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Blocks in the producer's store.
const HEIGHT: u64 = 500;
/// The fewest that can be kept are 357: so many slots transactions are good for, and what can be undone.
const KEEP: &str = "400";

impl Lab {
    pub(crate) fn db(&self, command: &str, datadir: &str, rest: &[&str]) -> Done {
        self.run(&[&["db", command, "--genesis", "genesis.toml", "--datadir", datadir], rest].concat())
    }

    /// What `db check` finds, which must be good.
    pub(crate) fn checked(&self, datadir: &str) -> Value {
        serde_json::from_str(&self.db("check", datadir, &["--full", "--json"]).good()).expect("JSON")
    }

    pub(crate) fn empty(&self, datadir: &str) {
        fs::create_dir(self.path(datadir)).expect("a directory");
    }
}

#[test]
fn a_chain_is_checked_exported_imported_and_pruned() {
    let lab = Lab::old("tools", HEIGHT, 100);
    let checked = lab.checked("producer");
    assert_eq!((&checked["height"], &checked["earliest"]), (&HEIGHT.into(), &1.into()));
    let exported = lab.db("export", "producer", &["chain"]);
    assert!(exported.error.contains("exported 500 blocks, heights 1 to 500"), "{exported:?}");
    lab.db("export", "producer", &["chain"]).refused(2, &["chain: it exists", "name another file"]);
    lab.empty("copy");
    assert!(lab.db("import", "copy", &["chain"]).good().contains("500 were new"));
    assert!(lab.db("import", "copy", &["chain"]).good().contains("0 were new"));
    assert_eq!(lab.checked("copy")["head"], checked["head"]);

    lab.db("prune", "copy", &["--keep-blocks", "20"]).refused(2, &["keep at least 357"]);
    let pruned = lab.db("prune", "copy", &["--keep-blocks", KEEP, "--compact", "--json"]).good();
    let pruned: Value = serde_json::from_str(&pruned).expect("JSON");
    assert_eq!((&pruned["blocks_removed"], &pruned["earliest"]), (&100.into(), &101.into()));
    assert!(pruned["file_bytes"].as_u64() < pruned["file_bytes_before"].as_u64(), "{pruned}");
    assert_eq!(lab.checked("copy")["canonical_blocks"], 400);
    // However little may be taken, what a node needs stays.
    let kept = lab.db("prune", "copy", &["--keep-bytes", "1KiB"]).good();
    let parts = ["removed 43 blocks; heights 144 to 500 are kept and take", "a node needs the last 357 blocks"];
    assert!(parts.iter().all(|part| kept.contains(part)), "{kept}");
    lab.db("prune", "copy", &["--keep-bytes", "some"]).refused(2, &["\"some\" is no number of bytes", "64MiB"]);
    lab.db("prune", "copy", &[]).refused(2, &["--keep-blocks", "--keep-bytes"]);
    assert!(lab.db("import", "copy", &["chain"]).good().contains("0 were new"), "what was pruned is passed over");
    // What is left can be exported, and is not enough to begin with.
    assert!(lab.db("export", "copy", &["rest"]).error.contains("exported 357 blocks, heights 144 to 500"));
    lab.empty("late");
    lab.db("import", "late", &["rest"]).refused(1, &["rest: the file begins at height 144", "blocks before first"]);
}

#[test]
fn a_bad_export_is_named_with_the_place_and_the_remedy_and_costs_nothing() {
    // Seven imports verify it, in several commits each.
    let lab = Lab::old("bad", 150, 100);
    lab.db("export", "producer", &["chain"]).good();
    let whole = fs::read(lab.path("chain")).expect("an export");
    // Empty blocks have one size.
    let record = (whole.len() - 68 - 17) / 150;
    let at = |number: usize| 68 + number * record;
    let mut flipped = whole.clone();
    flipped[at(75) + 100] ^= 1;
    let swapped = [&whole[..at(90)], &whole[at(91)..at(92)], &whole[at(90)..at(91)], &whole[at(92)..]].concat();
    let left_out = [&whole[..at(90)], &whole[at(91)..]].concat();
    let cases = [
        ("cut", whole[..at(135) + 9].to_vec(), 135, "was cut off"),
        ("cut between blocks", whole[..at(136)].to_vec(), 136, "was cut off"),
        ("without its end", whole[..at(150)].to_vec(), 150, "was cut off"),
        ("flipped", flipped, 75, "its check does not match"),
        ("swapped", swapped, 90, "its check does not match"),
        ("left out", left_out, 90, "its check does not match"),
    ];
    for (case, bytes, good, problem) in cases {
        fs::write(lab.path(case), bytes).expect("written");
        lab.empty(&format!("into {case}"));
        let done = lab.db("import", &format!("into {case}"), &[case]);
        let offset = format!("at byte {}", at(good));
        let said = format!("The {good} blocks before are imported");
        done.refused(1, &[case, problem, &said, "import it"]);
        assert!(done.error.contains(&offset) || problem == "was cut off", "{case}: {}", done.error);
        let checked = lab.checked(&format!("into {case}"));
        assert_eq!(checked["height"], good, "{case}");
    }
    let done = lab.db("import", "into flipped", &["chain"]).good();
    assert!(done.contains("75 were new"), "{done}");

    fs::write(lab.path("text"), "my diary").expect("written");
    lab.db("import", "into cut", &["text"]).refused(2, &["text: this is no export", "`starling db export`"]);
    lab.db("import", "into cut", &["missing"]).refused(2, &["cannot read missing", "name an export"]);
    let mut newer = whole;
    newer[16] = 2;
    fs::write(lab.path("newer"), newer).expect("written");
    lab.db("import", "into cut", &["newer"]).refused(2, &["newer: the file has version 2", "use a newer starling"]);
    let other = Lab::old("other", 1, 100);
    other.db("export", "producer", &["chain"]).good();
    fs::copy(other.path("chain"), lab.path("foreign")).expect("copied");
    let ids = [other.genesis.network_id().to_string(), lab.genesis.network_id().to_string()];
    lab.db("import", "into cut", &["foreign"]).refused(2, &["foreign: ", &ids[0], &ids[1], "give the genesis"]);
    assert_eq!(lab.checked("into cut")["height"], 135, "nothing was lost");
}

/// Each command that could disturb a running node is refused, and the message says which process is meant.
#[tokio::test]
async fn a_running_nodes_database_is_left_alone() {
    let lab = Lab::old("running", HEIGHT, 300);
    lab.db("export", "producer", &["before"]).good();
    let node = lab.start_producer(&[]);
    let holder = format!("is in use by process {}; stop that node first", node.child.id());
    for (command, rest) in
        [("check", &[][..]), ("export", &["chain"]), ("import", &["before"]), ("prune", &["--keep-blocks", KEEP])]
    {
        lab.db(command, "producer", rest).refused(1, &[&holder]);
    }
    assert!(!lab.path("chain").exists());
    let rpc = node.rpc();
    eventually("the chain to go on", || async { (rpc.chain_head().await.ok()?.height > HEIGHT + 1).then_some(()) })
        .await;
    node.stop();
    assert_eq!(lab.checked("producer")["earliest"], 1);
}

#[test]
fn a_killed_import_is_begun_again_and_a_killed_export_leaves_no_export() {
    let lab = Lab::old("killed", HEIGHT, 100);
    lab.db("export", "producer", &["chain"]).good();
    let whole = fs::read(lab.path("chain")).expect("an export");
    lab.empty("copy");
    let import = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
        command.args(["db", "import", "--genesis", "genesis.toml", "--datadir", "copy"]).args(args);
        command.current_dir(lab.dir.path()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the program starts")
    };
    for part in 1..6 {
        let mut child = import(&["-"]);
        // It waits for the rest of the file when it has done what it was given, or is killed before it comes to that.
        let mut file = child.stdin.take().expect("a pipe");
        let _early = file.write_all(&whole[..whole.len() * part / 6]);
        std::thread::sleep(Duration::from_millis(40 * part as u64));
        child.kill().expect("it runs");
        let _killed = child.wait().expect("it ends");
        // Killed early, it has not even made one.
        if lab.path("copy/chain.redb").exists() {
            lab.checked("copy");
        }
    }
    lab.db("import", "copy", &["chain"]).good();
    let checked = lab.checked("copy");
    assert_eq!((&checked["height"], &checked["head"]), (&HEIGHT.into(), &lab.checked("producer")["head"]));

    // What a killed export leaves is not named as an export, and in nobody's way.
    fs::write(lab.path("again.unfinished"), "half").expect("written");
    lab.db("export", "producer", &["again"]).good();
    assert_eq!(fs::read(lab.path("again")).expect("an export"), whole);
    assert!(!lab.path("again.unfinished").exists());
}

/// Runs `starling` with a limit on the size of files, which fails as a full disk does.
fn without_room(lab: &Lab, bytes_max: u64, args: &[&str]) -> Done {
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$@\"", bytes_max / 512);
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_starling")]).args(args).current_dir(lab.dir.path());
    Done::of(&mut command)
}

#[test]
fn without_room_an_export_leaves_nothing_and_an_import_what_was_stored() {
    // More than the megabyte that a new store has.
    const MANY: u64 = 2_400;
    let lab = Lab::old("room", MANY, 100);
    let place = ["--genesis", "genesis.toml", "--datadir"];
    let args = [&["db", "export", "chain"][..], &place, &["producer"]].concat();
    without_room(&lab, 8_192, &args).refused(1, &["chain: cannot write the file: File too large", "make room"]);
    let mut left = fs::read_dir(lab.dir.path()).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    assert!(left.all(|name| !name.to_string_lossy().starts_with("chain")), "half an export was left");

    lab.db("export", "producer", &["chain"]).good();
    lab.empty("copy");
    // Makes the store.
    fs::write(lab.path("start"), &fs::read(lab.path("chain")).expect("an export")[..68]).expect("written");
    lab.db("import", "copy", &["start"]).refused(1, &["was cut off"]);
    let bytes = fs::metadata(lab.path("copy/chain.redb")).expect("a store").len();
    let args = [&["db", "import", "chain"][..], &place, &["copy"]].concat();
    without_room(&lab, bytes + 65_536, &args)
        .refused(1, &["copy/chain.redb failed", "File too large", "has free space"]);
    let height = lab.checked("copy")["height"].as_u64().expect("a height");
    assert!(height > 0 && height < MANY, "{height}: there was room for everything");
    lab.db("import", "copy", &["chain"]).good();
    assert_eq!(lab.checked("copy")["height"], MANY);
    let pruned = lab.db("prune", "copy", &["--keep-bytes", "1MiB", "--compact", "--json"]).good();
    let pruned: Value = serde_json::from_str(&pruned).expect("JSON");
    let [kept, file] = ["kept_bytes", "file_bytes"].map(|key| pruned[key].as_u64().expect("a number"));
    assert!((800_000..=1 << 20).contains(&kept) && file < 3 << 19, "{pruned}");
    assert_eq!(lab.checked("copy")["earliest"], pruned["earliest"]);
}

#[test]
fn a_database_of_a_newer_schema_is_refused_with_the_remedy_and_unchanged() {
    let lab = Lab::old("newer", 3, 100);
    let path = lab.path("producer/chain.redb");
    let database = redb::Database::open(&path).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    transaction.open_table(meta).expect("there").insert("schema", &99_u64.to_le_bytes()[..]).expect("written");
    transaction.commit().expect("committed");
    drop(database);
    let parts =
        ["chain.redb has schema 99, and this version of starling reads schema 2", "use the version that wrote it"];
    lab.db("check", "producer", &[]).refused(2, &parts);
    lab.db("prune", "producer", &["--keep-blocks", KEEP]).refused(2, &parts);
    let (code, error) = lab.refuse("producer", 1, &[]);
    Done { code, out: String::new(), error }.refused(2, &parts);
    let store = Store::open(&path, lab.genesis.network_id()).expect_err("refused");
    assert!(matches!(store, StoreError::OtherSchema { found: 99, .. }), "it was changed: {store}");
}

/// A node that has pruned says so, and is not asked for what it cannot have; whoever needs that is told what helps.
#[tokio::test]
async fn a_pruned_node_tells_its_peers_what_it_keeps() {
    let lab = Lab::old("pruned", HEIGHT, 300);
    lab.db("export", "producer", &["chain"]).good();
    let producer = lab.start_producer(&["--keep-blocks", KEEP, "--keep-bytes", "1GiB"]);
    let bootnode = producer.addresses().listen[0].clone();
    let rpc = producer.rpc();
    eventually("what is old to be gone", || async {
        let disk = rpc.ready().await.expect("an answer").disk;
        assert_eq!(disk.keep_bytes, Some(1 << 30));
        (disk.height >= HEIGHT && disk.earliest == disk.height - 399 && disk.kept_bytes > Some(0)).then_some(())
    })
    .await;
    let late = lab.start("late", 2, &["--bootnodes", &bootnode]);
    let log = || fs::read_to_string(lab.log("late")).expect("a log");
    wait_for("the advice to import an export", || log().contains("`starling db import`").then_some(()));
    assert_eq!(late.rpc().chain_head().await.expect("an answer").height, 0);
    assert!(!log().contains("a peer failed us"), "{}", log());
    late.stop();
    lab.db("import", "late", &["chain"]).good();
    let late = lab.start("late", 2, &["--bootnodes", &bootnode]);
    eventually("the rest of the chain", || async {
        (late.rpc().chain_head().await.ok()?.height > HEIGHT + 2).then_some(())
    })
    .await;
    assert!(!log().contains("a peer failed us"), "{}", log());
    late.stop();
    producer.stop();
}
