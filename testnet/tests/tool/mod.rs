//! Calling the tool as a shell does, for the tests of its commands.

use std::path::Path;
use std::process::{Command, Output};

/// A network that is simulated in a moment.
pub(crate) const MANIFEST: &str = r#"
format = 1
name = "tiny"
nodes = 12
[time]
warm_up_s = 4
load_s = 4
drain_s = 3.5
[topology]
kind = "random"
degree = 6
[blocks]
producers = 2
slot_s = 1
[[workload]]
kind = "constant"
per_s = 4
bytes = 200
publishers = { count = 4 }
"#;

fn tool(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_starling-testnet");
    Command::new(program).args(arguments).output().expect("the tool starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the tool prints when it ends with this code.
pub(crate) fn said(arguments: &[&str], code: i32) -> String {
    let output = tool(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
    out + &err
}

pub(crate) fn summary(dir: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(dir.join("summary.json")).expect("there is a summary");
    serde_json::from_str(&text).expect("it is JSON")
}
