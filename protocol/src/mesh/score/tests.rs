use super::*;

#[test]
fn the_default_configuration_obeys_the_rules() {
    ScoreConfig::default().validate().expect("the defaults are valid");
}
