//! The files in `node/deploy/` and `docs/OPERATING.md` against the program that they are for: every metric and label that they
//! name is served, every command that they give is one, every message that they quote is in the source. And the map in
//! `docs/ARCHITECTURE.md`: every module is on it.

mod promql;

use prometheus_client::registry::Registry;
use promql::Served;
use serde_json::Value;
use starling_node::metrics::Metrics;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a node serves, as Prometheus sees it.
fn served() -> Served {
    let dir = tempfile::tempdir().expect("a directory");
    let database = dir.path().join("db");
    std::fs::write(&database, "").expect("written");
    Served::from_text(&Metrics::new(Registry::default(), &database).encode())
}

/// The rules of an alert file: name, expression, and the texts for people.
fn alerts() -> Vec<(String, String, String)> {
    let text = read("node/deploy/prometheus/alerts.yml");
    let mut rules = Vec::new();
    for rule in text.split("- alert: ").skip(1) {
        let name = rule.lines().next().expect("a name").trim().to_owned();
        let (_, after) = rule.split_once("expr:").unwrap_or_else(|| panic!("{name} has no expression"));
        let mut lines = after.lines();
        let first = lines.next().expect("a line").trim();
        let expression = if first == ">" {
            let deeper = lines.take_while(|line| line.starts_with("          "));
            deeper.map(str::trim).collect::<Vec<_>>().join(" ")
        } else {
            first.to_owned()
        };
        let (_, annotations) = rule.split_once("annotations:").unwrap_or_else(|| panic!("{name} says nothing"));
        rules.push((name, expression, annotations.to_owned()));
    }
    rules
}

#[test]
fn alert_rules_name_what_is_served() {
    let served = served();
    let rules = alerts();
    assert!(rules.len() > 15, "{rules:?}");
    let mut names = BTreeSet::new();
    for (name, expression, annotations) in &rules {
        assert!(names.insert(name), "{name} is there twice");
        let used = served.check(expression).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        for rest in annotations.split("$labels.").skip(1) {
            let label: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(used.labels.contains(label.as_str()), "{name}: its text names the label {label}, which it has not");
        }
        assert!(annotations.contains("summary:") && annotations.contains("description:"), "{name}");
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&read("node/deploy/grafana/starling.json")).expect("JSON")
}

#[test]
fn the_dashboard_names_what_is_served() {
    let (served, dashboard) = (served(), dashboard());
    let mut expressions = 0;
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            let title = &panel["title"];
            let used = served.check(expression).unwrap_or_else(|problem| panic!("{title}: {problem}"));
            let legend = target["legendFormat"].as_str().expect("a legend");
            for label in legend.split("{{").skip(1).map(|rest| rest.split("}}").next().expect("closed").trim()) {
                assert!(used.labels.contains(label), "{title}: the legend names the label {label}, which it has not");
            }
            expressions += 1;
        }
    }
    assert!(expressions > 60, "{expressions}");
    for annotation in dashboard["annotations"]["list"].as_array().expect("annotations") {
        served.check(annotation["expr"].as_str().expect("an expression")).expect("an annotation");
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        if let Some(definition) = variable["definition"].as_str() {
            served.check(definition).expect("a variable");
        }
    }
}

#[test]
fn every_metric_of_the_node_is_on_the_dashboard_or_in_an_alert() {
    // Without which every graph would be the same, or which only say that all is well.
    const SPARE: [&str; 2] = ["starling_mesh_heartbeats_total", "process_virtual_memory_bytes"];
    let texts = read("node/deploy/grafana/starling.json") + &read("node/deploy/prometheus/alerts.yml");
    let shown = |family: &str| texts.contains(family.trim_end_matches("_total"));
    let missing: Vec<_> =
        served().families().filter(|name| !shown(name) && !SPARE.contains(name)).map(str::to_owned).collect();
    assert!(missing.is_empty(), "no panel and no alert shows {missing:?}");
}

#[test]
fn the_dashboard_can_be_provisioned_anywhere() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "starling");
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    let mut rows = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: its id is taken");
        let grid = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        assert!(grid("x") + grid("w") <= 24, "{title} is too wide");
        for (x, y) in
            (grid("x")..grid("x") + grid("w")).flat_map(|x| (grid("y")..grid("y") + grid("h")).map(move |y| (x, y)))
        {
            assert!(cells.insert((x, y)), "{title} covers another panel");
        }
        if panel["type"] == "row" {
            rows.push(title);
            continue;
        }
        assert!(panel["fieldConfig"]["defaults"].is_object() && panel["options"].is_object(), "{title}");
    }
    for source in sources_of(&dashboard) {
        assert_eq!(source["uid"], "${datasource}", "a data source of its own");
    }
    for wanted in ["Overview", "Propagation", "Mesh", "Peers", "Chain", "Storage", "Process"] {
        assert!(rows.iter().any(|row| row.starts_with(wanted)), "no row about {wanted}");
    }
}

/// Every data source that is named anywhere.
fn sources_of(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().flat_map(sources_of).collect(),
        Value::Object(fields) => {
            let within =
                fields.iter().filter(|(name, _)| *name != "datasource").flat_map(|(_, value)| sources_of(value));
            fields.get("datasource").into_iter().chain(within).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether the program takes these arguments: with `--help` after them it complains about unknown ones, and else helps.
fn takes(arguments: &[String]) -> Result<(), String> {
    let output = Command::new(env!("CARGO_BIN_EXE_starling")).args(arguments).arg("--help").output().expect("runs");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_unit_starts_what_there_is() {
    let unit = read("node/deploy/systemd/starling.service");
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{key} is not set")).to_owned()
    };
    let command = words(&value("ExecStart"));
    assert_eq!(command[0], "/usr/local/bin/starling");
    takes(&command[1..]).expect("the command of the unit");
    assert_eq!(value("Type"), "notify");
    let watchdog_s: u64 = value("WatchdogSec").trim_end_matches('s').parse().expect("seconds");
    assert!(
        watchdog_s >= 10 * starling_node::notify::WATCHDOG_MIN.as_secs(),
        "a busy host must not be a reason to die"
    );
    // Exit code 2 is a wrong setting.
    assert_eq!(value("RestartPreventExitStatus"), "2");
    for (key, wanted) in
        [("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("PrivateTmp", "yes"), ("User", "starling")]
    {
        assert_eq!(value(key), wanted, "{key}");
    }
    assert!(value("StateDirectory") == "starling" && command.contains(&"/var/lib/starling".to_owned()));
}

/// The arguments of a list such as `["a", "b"]`.
fn list(text: &str) -> Vec<String> {
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_image_runs_what_there_is() {
    let dockerfile = read("node/deploy/docker/Dockerfile");
    let joined = dockerfile.replace("\\\n", " ");
    let instructions = |name: &str| -> Vec<String> {
        joined.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned).collect()
    };
    let program = "/usr/local/bin/starling";
    assert_eq!(list(&instructions("ENTRYPOINT")[0]).join(" "), program);
    takes(&list(&instructions("CMD")[0])).expect("CMD");
    let health = instructions("HEALTHCHECK")[0].split_once("CMD").map(|(_, command)| list(command)).expect("a command");
    assert_eq!(health[0], program);
    takes(&health[1..]).expect("the health check");
    let build = &instructions("RUN").into_iter().find(|run| run.starts_with("cargo build")).expect("a build");
    assert!(build.contains("--package starling-node --bin starling") && build.contains("--locked"), "{build}");
    assert!(!instructions("FROM").iter().any(|image| image.contains("latest")), "an image without a version");
    // The variable that the image sets names a setting.
    let environment = &instructions("ENV")[0];
    let (name, _) = environment.split_once('=').expect("NAME=value");
    let known = Command::new(env!("CARGO_BIN_EXE_starling")).args(["run", "--help"]).output().expect("runs");
    let flag = name.strip_prefix("STARLING_").expect("a setting").to_lowercase().replace('_', "-");
    assert!(String::from_utf8_lossy(&known.stdout).contains(&format!("--{flag} ")), "no setting is called {flag}");
}

#[test]
fn the_containers_name_files_and_flags_that_there_are() {
    let compose = read("node/deploy/docker/compose.yml");
    let (_, after) = compose.split_once("    command:\n").expect("a command");
    let items = after.lines().take_while(|line| line.starts_with("      - "));
    let command: Vec<String> = items.map(|line| line.trim_start_matches("      - ").to_owned()).collect();
    takes(&command).expect("the command of the node");
    let here = root().join("node/deploy/docker");
    for line in compose.lines().filter_map(|line| line.trim().strip_prefix("- ../")) {
        let file = line.split(':').next().expect("a file");
        assert!(here.join("..").join(file).exists(), "{file} does not exist");
    }
    // The scraper calls the node by the name that the node is told to answer to.
    let scrape = read("node/deploy/prometheus/prometheus.yml");
    assert!(
        scrape.contains("targets: [\"starling:26501\"]") && command.contains(&"--rpc-allow-host=starling".to_owned())
    );
    assert!(scrape.contains("job_name: starling"), "the alerts select this job");
}

/// The commands of `starling` in the code blocks of a document, without what the shell does around them.
fn commands(document: &str) -> Vec<Vec<String>> {
    let blocks = document.split("```").skip(1).step_by(2);
    let mut commands = Vec::new();
    for line in blocks.flat_map(str::lines) {
        // What stands in quotes is one argument, whatever it is.
        let quoted =
            |(place, part): (usize, &str)| if place % 2 == 1 { part.replace(' ', "_") } else { part.to_owned() };
        let words = words(&line.split('"').enumerate().map(quoted).collect::<String>());
        let program = words.iter().enumerate().rposition(|(place, word)| {
            let user = place > 0 && words[place - 1] == "-u";
            (word == "starling" && !user || word.starts_with("/usr/local/bin/starling"))
                && command_begins(&words[..place])
        });
        if let Some(place) = program {
            let arguments = words[place + 1..].iter();
            let end = |word: &&String| !matches!(word.as_str(), "|" | ">" | ">>" | "<" | "&&" | "#" | ";");
            commands.push(arguments.take_while(end).cloned().collect());
        }
    }
    commands
}

/// Whether what stands before a word lets it be a command.
fn command_begins(before: &[String]) -> bool {
    match before.last().map(String::as_str) {
        None | Some("|" | "&&" | ";") => true,
        // `sudo -u starling COMMAND`, `docker compose exec starling COMMAND`.
        Some("starling") => matches!(before[before.len() - 2].as_str(), "-u" | "exec"),
        Some(_) => false,
    }
}

#[test]
fn the_manual_gives_commands_that_there_are() {
    let manual = read("docs/OPERATING.md");
    let commands = commands(&manual);
    assert!(commands.len() > 20, "{commands:?}");
    for arguments in commands {
        takes(&arguments).unwrap_or_else(|error| panic!("starling {}: {error}", arguments.join(" ")));
    }
}

/// All source of the node and the protocol, with strings that go over several lines put together.
fn sources() -> String {
    fn read_all(dir: &Path, text: &mut String) {
        for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                read_all(&entry, text);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(&entry).expect("text"));
            }
        }
    }
    let mut text = String::new();
    for source in ["node/src", "protocol/src"] {
        read_all(&root().join(source), &mut text);
    }
    let mut joined = String::new();
    for line in text.lines() {
        match line.trim_start().strip_suffix('\\') {
            Some(begun) => joined.push_str(begun),
            None => {
                joined.push_str(line.trim_start());
                joined.push('\n');
            }
        }
    }
    joined
}

#[test]
fn the_manual_quotes_what_the_program_says() {
    let (manual, sources) = (read("docs/OPERATING.md"), sources());
    let (_, table) = manual.split_once("| the node says |").expect("the table of troubles");
    let mut quoted = 0;
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let message = row.split('`').nth(1).expect("a message");
        for part in message.split('…').map(str::trim).filter(|part| part.len() > 3) {
            assert!(sources.contains(part), "the program does not say {part:?}");
        }
        quoted += 1;
    }
    assert!(quoted > 15, "{quoted}");
}

/// The file names in the first column of the table that follows `heading`.
fn files_of_table(text: &str, heading: &str) -> BTreeSet<String> {
    let (_, rest) = text.split_once(heading).expect("the heading");
    let rows =
        rest.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('|').nth(1).expect("a cell").split('`').skip(1).step_by(2).map(str::to_owned))
        .collect()
}

#[test]
fn the_manual_knows_the_files_of_a_data_directory() {
    let manual = read("docs/OPERATING.md");
    let files = files_of_table(&manual, "What is in the directory");
    assert_eq!(files, files_of_table(&read("docs/PROTOCOL.md"), "A node's data directory holds"));
    let sources = sources();
    for file in &files {
        assert!(sources.contains(&format!("\"{file}\"")), "the program has no file {file}");
    }
    for word in manual.split(|character: char| !(character.is_alphanumeric() || "._-/".contains(character))) {
        let file = word.rsplit('/').next().unwrap_or_default();
        assert!(!file.ends_with(".redb") || files.contains(file), "the manual speaks of {file}");
    }
}

#[test]
fn the_manual_names_metrics_that_are_served() {
    let (manual, served) = (read("docs/OPERATING.md"), served());
    let families: BTreeSet<&str> = served.families().collect();
    let mut named = 0;
    for name in manual.split('`').filter(|text| text.starts_with("starling_")) {
        assert!(families.contains(name), "no metric is called {name}");
        named += 1;
    }
    assert!(named > 5, "{named}");
}

#[test]
fn the_map_of_the_source_names_every_module() {
    let map = read("docs/ARCHITECTURE.md");
    for library in ["protocol/src", "node/src"] {
        let (_, modules) = map.split_once(&format!("| `{library}/` |")).expect("a table of its own");
        let (modules, _) = modules.split_once("\n\n").expect("an end");
        let source = read(&format!("{library}/lib.rs"));
        let declared = source.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        for module in declared {
            assert!(modules.contains(&format!("`{module}`")), "docs/ARCHITECTURE.md does not name {library}/{module}");
        }
    }
}
