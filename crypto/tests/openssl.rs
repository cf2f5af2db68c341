//! Key files against the real `openssl`. Where it is not installed, the tests say so and pass.

use starling_crypto::SecretKey;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// Runs `openssl` with `arguments` and gives its standard output, or `None` if there is no
/// `openssl`.
fn openssl(arguments: &[&str], file: &Path) -> Option<String> {
    let output = match Command::new("openssl").args(arguments).arg(file).output() {
        Ok(output) => output,
        Err(error) => {
            // Written past the test harness, which would swallow `eprintln!` in a passing test.
            let _ = writeln!(std::io::stderr(), "SKIPPED: openssl cannot be run here: {error}");
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?} failed: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn openssl_reads_our_key_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let key = SecretKey::from_seed(&[0x5a; 32]);
    std::fs::write(&file, key.to_pem().as_bytes()).unwrap();
    let Some(text) = openssl(&["pkey", "-noout", "-text", "-in"], &file) else {
        return;
    };
    assert!(text.contains("ED25519 Private-Key"), "{text}");
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    assert!(digits.contains(&hex::encode(*key.seed())), "{text}");
    assert!(digits.contains(&key.public_key().to_string()), "{text}");
}

#[test]
fn we_read_openssls_key_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    if openssl(&["genpkey", "-algorithm", "ed25519", "-out"], &file).is_none() {
        return;
    }
    let key = SecretKey::from_pem(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let text = openssl(&["pkey", "-noout", "-text_pub", "-in"], &file).unwrap();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    assert!(digits.contains(&key.public_key().to_string()), "{text}");
}
