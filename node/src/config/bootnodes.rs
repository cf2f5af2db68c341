//! The file with bootnodes: one multiaddress a line, `#` begins a comment, empty lines count for nothing.

use super::ConfigError;
use super::table::check_peer;
use libp2p::Multiaddr;
use std::path::Path;

/// Largest file that is read, in bytes. A guess: thousands of bootnodes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Reads the file.
///
/// # Errors
/// If it cannot be read, or a line is no bootnode: then the line is named.
pub(super) fn read(path: &Path) -> Result<Vec<Multiaddr>, ConfigError> {
    let failed = |source| ConfigError::Unreadable { what: "the file with bootnodes", path: path.to_owned(), source };
    let text = crate::bounded::read_text(path, FILE_BYTES_MAX).map_err(failed)?;
    let mut addresses: Vec<Multiaddr> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let wrong = |problem| ConfigError::Bootnodes { path: path.to_owned(), line, problem };
        check_peer(content).map_err(wrong)?;
        let address = content.parse().map_err(|error: libp2p::multiaddr::Error| wrong(error.to_string()))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4";

    fn parsed(text: &str) -> Result<Vec<Multiaddr>, ConfigError> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("bootnodes.txt");
        std::fs::write(&path, text).expect("written");
        read(&path)
    }

    #[test]
    fn comments_and_repeats_are_left_out() {
        let text = format!(
            "# ours\n\n/ip4/192.0.2.1/tcp/1/p2p/{PEER} # the first\r\n  /dnsaddr/boot.example/p2p/{PEER}\n\
             /ip4/192.0.2.1/tcp/1/p2p/{PEER}"
        );
        let addresses = parsed(&text).expect("valid");
        assert_eq!(addresses.len(), 2);
        assert!(addresses[1].to_string().starts_with("/dnsaddr/boot.example"));
        assert_eq!(parsed("# nobody\n").expect("valid"), Vec::<Multiaddr>::new());
    }

    #[test]
    fn a_wrong_line_is_named_with_its_number_and_the_remedy() {
        for (text, parts) in [
            (format!("# one\n/ip4/192.0.2.1/tcp/1/p2p/{PEER}\nnonsense"), ["line 3", "no multiaddress"]),
            ("/ip4/192.0.2.1/tcp/1".to_owned(), ["line 1", "append /p2p/PEER_ID"]),
        ] {
            let error = parsed(&text).expect_err("wrong").to_string();
            assert!(parts.iter().all(|part| error.contains(part)) && error.contains("bootnodes.txt"), "{error}");
        }
        let error = read(Path::new("/nowhere/bootnodes.txt")).expect_err("missing").to_string();
        assert!(error.contains("cannot read the file with bootnodes /nowhere/bootnodes.txt"), "{error}");
    }
}
