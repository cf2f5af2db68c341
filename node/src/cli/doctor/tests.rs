use super::*;

fn findings() -> Vec<Finding> {
    vec![
        Finding::ok("clock", "kept by chronyd"),
        Finding::warn("disk", "900 MiB free, database 12.0 MiB", "make room, or keep fewer blocks"),
        Finding::fail(
            "limits",
            "this shell may open 256 files, and the node needs up to 416",
            "`ulimit -n 416` before starting it, LimitNOFILE=416 in its unit, or a lower --max-peers",
        ),
    ]
}

#[test]
fn each_line_says_what_is_wrong_and_how_to_mend_it() {
    assert_eq!(
        text(&findings(), &Screen::of(80)),
        "\
ok    clock   kept by chronyd
warn  disk    900 MiB free, database 12.0 MiB
              -> make room, or keep fewer blocks
FAIL  limits  this shell may open 256 files, and the node needs up to 416
              -> `ulimit -n 416` before starting it, LimitNOFILE=416 in its
              unit, or a lower --max-peers
1 failure, 1 warning
"
    );
    assert!(text(&findings()[..1], &Screen::of(80)).ends_with("nothing is wrong\n"));
    let wide = text(&findings(), &Screen::of(120));
    assert_eq!(wide.lines().count(), 6, "{wide}");
}

#[test]
fn the_remedy_of_an_error_stands_behind_its_last_semicolon() {
    let finding = Finding::failed("keys", "the key is open to others; make it private with `chmod 600 a.pem`");
    assert_eq!(finding.remedy.as_deref(), Some("make it private with `chmod 600 a.pem`"));
    assert_eq!(finding.what, "the key is open to others");
    assert!(Finding::failed("keys", "broken").remedy.is_some(), "no finding is without a remedy");
}
