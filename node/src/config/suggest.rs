//! The nearest known name to one that is not known.

/// Below this similarity a suggestion would be a guess.
const SIMILARITY_MIN: f64 = 0.75;

/// The known name that `given` most likely means; none if nothing is near. The part after the last point is compared alone,
/// too, for a key that stands in the wrong section.
#[must_use]
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let last = |name: &'a str| name.rsplit('.').next().unwrap_or(name);
    let given_last = given.rsplit('.').next().unwrap_or(given);
    let similarity = |name: &'a str| {
        // Every variable begins with the same prefix, which says nothing.
        let plain = |text: &str| text.strip_prefix(super::setting::VARIABLE_PREFIX).unwrap_or(text).to_owned();
        strsim::jaro_winkler(&plain(given), &plain(name))
            .max(strsim::jaro_winkler(&plain(given_last), &plain(last(name))))
    };
    let best = known.into_iter().map(|name| (name, similarity(name))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (best.1 > SIMILARITY_MIN).then_some(best.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_or_none() {
        let known = ["network.target_peers", "network.bootnodes", "genesis", "log.filter"];
        assert_eq!(nearest("network.target_peer", known), Some("network.target_peers"));
        assert_eq!(nearest("log.target_peers", known), Some("network.target_peers"));
        assert_eq!(nearest("network.boot_nodes", known), Some("network.bootnodes"));
        assert_eq!(nearest("genisis", known), Some("genesis"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest("STARLING_QQQ", ["STARLING_RPC", "STARLING_LISTEN"]), None);
    }
}
