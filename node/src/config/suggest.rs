//! The nearest known name to one that is not known.

/// Below this similarity a suggestion would be a guess.
const SIMILARITY_MIN: f64 = 0.75;

/// A name of which more than one letter in so many would have to change is another word, not a misspelt one. One always may.
const LETTERS_PER_SLIP: usize = 3;

/// How much less a name in another section counts; decides between names that are the same but for the section.
const OTHER_SECTION: f64 = 0.01;

/// The known name that `given` most likely means; none if nothing is near. Only the part after the last point is compared: a
/// key may stand in the wrong section, and a section in common makes no two keys alike.
#[must_use]
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (given_section, given_name) = parts(given);
    let similarity = |name: &'a str| {
        let (section, name) = parts(name);
        strsim::jaro_winkler(given_name, name) - if section == given_section { 0.0 } else { OTHER_SECTION }
    };
    let slips_max = (given_name.chars().count() / LETTERS_PER_SLIP).max(1);
    let near = |name: &&str| strsim::osa_distance(given_name, parts(name).1) <= slips_max;
    let best =
        known.into_iter().filter(near).map(|name| (name, similarity(name))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (best.1 > SIMILARITY_MIN).then_some(best.0)
}

/// The section and the name in it. What all variables begin with says nothing and is left out.
fn parts(name: &str) -> (&str, &str) {
    let name = name.strip_prefix(super::setting::VARIABLE_PREFIX).unwrap_or(name);
    name.rsplit_once('.').unwrap_or(("", name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_or_none() {
        let known = [
            "network.target_peers",
            "network.bootnodes",
            "genesis",
            "log.filter",
            "network.nat",
            "network.flood_publish",
        ];
        assert_eq!(nearest("network.target_peer", known), Some("network.target_peers"));
        assert_eq!(nearest("log.target_peers", known), Some("network.target_peers"));
        assert_eq!(nearest("network.boot_nodes", known), Some("network.bootnodes"));
        assert_eq!(nearest("genisis", known), Some("genesis"));
        assert_eq!(nearest("b.listen_on", ["a.listen", "b.listen", "c.listen"]), Some("b.listen"));
        for far in ["zzz", "log.colour", "network.verbosity", "name", "foo", "log.fool"] {
            assert_eq!(nearest(far, known), None, "{far}");
        }
        assert_eq!(nearest("STARLING_QQQ", ["STARLING_RPC", "STARLING_LISTEN"]), None);
    }
}
