//! Who may talk to the RPC: see the first promise of [`crate::rpc`].
//!
//! # Host
//! There must be exactly one, and it must be one of: `localhost`; an address of the loopback network; the address at which
//! the connection arrived; a configured name or address. Under DNS rebinding the attacker's page is loaded from a name of the
//! attacker's, and the browser sends that name: an address never appears. The port is not compared, because a forwarded
//! port (`ssh -L`, a container) differs without harm.
//!
//! # Origin
//! None, or a configured one, compared as a string. `null`, which sandboxed pages and files send, is never allowed. Browsers send none with
//! what a page merely loads, such as an image, but say in `Sec-Fetch-Site` (W3C, Fetch Metadata Request Headers) that another site asks for
//! it: without an origin that is refused, too, unless somebody follows a link. Programs do not send that header.

use super::codes::clip;
use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::{StatusCode, Uri};
use std::net::IpAddr;

/// By which site a browser says that it was made to ask.
const SEC_FETCH_SITE: &str = "sec-fetch-site";
/// For what, and for what kind of thing.
const SEC_FETCH_MODE: &str = "sec-fetch-mode";
const SEC_FETCH_DEST: &str = "sec-fetch-dest";

/// What is allowed beyond the machine itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    /// Further names and addresses, each as [`canonical_host`] gives it.
    pub(super) hosts: Vec<String>,
    /// Origins such as `https://example.org`.
    pub(super) origins: Vec<String>,
}

/// Why a request is turned away before anything looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) status: StatusCode,
    pub(super) cause: String,
    pub(super) remedy: String,
}

impl Guard {
    /// Checks a request that arrived at `local`; the allowed origin, if the request names one.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap, local: IpAddr) -> Result<Option<HeaderValue>, Denied> {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Denied {
                status: StatusCode::BAD_REQUEST,
                cause: "the request has no Host header, or several".into(),
                remedy: "send exactly one, as HTTP/1.1 asks".into(),
            });
        };
        self.check_host(host.to_str().unwrap_or("(not text)"), local)?;
        // A request line in absolute form names the host too, and outranks the header (RFC 9112, section 3.2.2).
        if let Some(authority) = uri.authority() {
            self.check_host(authority.as_str(), local)?;
        }
        self.check_origin(headers)
    }

    fn check_host(&self, host: &str, local: IpAddr) -> Result<(), Denied> {
        let name = without_port(host).to_ascii_lowercase();
        // An address stands in brackets if it is of version 6, and only then (RFC 3986, section 3.2.2).
        let by_address = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(address) => address.parse().ok().map(IpAddr::V6),
            None => name.parse().ok().map(IpAddr::V4),
        };
        let by_address = by_address.map(|address| address.to_canonical());
        let allowed = match by_address {
            Some(address) => {
                address.is_loopback() || address == local.to_canonical() || self.hosts.contains(&address.to_string())
            }
            None => name == "localhost" || self.hosts.contains(&name),
        };
        if allowed {
            return Ok(());
        }
        let host_to_allow = match by_address {
            Some(address) => address.to_string(),
            None if name.is_empty() => "NAME".to_owned(),
            None => clip(&name).to_owned(),
        };
        Err(Denied {
            status: StatusCode::FORBIDDEN,
            cause: format!("the host {:?} is not allowed, to protect against DNS rebinding", clip(host)),
            remedy: format!(
                "use the address, as in http://{}, or start the node with --rpc-allow-host {host_to_allow}",
                in_uri(local.to_canonical())
            ),
        })
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Denied> {
        for origin in headers.get_all(ORIGIN) {
            let text = origin.to_str().unwrap_or("(not text)");
            if text == "null" || !self.origins.iter().any(|allowed| allowed == text) {
                return Err(Denied {
                    status: StatusCode::FORBIDDEN,
                    cause: format!("requests from the web page {:?} are not allowed", clip(text)),
                    remedy: "call from a program, or start the node with --rpc-allow-origin for pages that you trust"
                        .into(),
                });
            }
        }
        if let Some(origin) = headers.get(ORIGIN) {
            return Ok(Some(origin.clone()));
        }
        let said = |name| headers.get(name).map(HeaderValue::as_bytes);
        match said(SEC_FETCH_SITE) {
            None | Some(b"none" | b"same-origin") => Ok(None),
            // Whoever follows a link sees where it leads.
            Some(_) if said(SEC_FETCH_MODE) == Some(b"navigate") && said(SEC_FETCH_DEST) == Some(b"document") => {
                Ok(None)
            }
            Some(_other_sites) => Err(Denied {
                status: StatusCode::FORBIDDEN,
                cause: "requests that a web page makes are not allowed".into(),
                remedy: "call from a program, or type the address into the browser".into(),
            }),
        }
    }
}

/// A host name in lowercase, or an address as `std` writes it: the form in which [`Guard::hosts`] are compared.
pub(super) fn canonical_host(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_a_name) => host.to_ascii_lowercase(),
    }
}

/// An address as it stands in a URI (RFC 3986, section 3.2.2).
fn in_uri(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The host without `:port`; an address of IP version 6 stands in brackets and has colons of its own.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => {
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderName;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

    fn check(guard: &Guard, host: &str, origin: Option<&str>) -> Result<Option<HeaderValue>, Denied> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a header value"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().expect("a header value"));
        }
        guard.check(&Uri::from_static("/"), &headers, LOCAL)
    }

    #[test]
    fn the_machine_itself_is_allowed_and_names_are_not() {
        let guard = Guard { hosts: vec!["node.example".into()], origins: Vec::new() };
        for host in ["127.0.0.1", "127.3.2.1:8080", "localhost", "LocalHost:1", "[::1]", "[::1]:80", "10.0.0.7:1"] {
            check(&guard, host, None).unwrap_or_else(|denied| panic!("{host}: {denied:?}"));
        }
        check(&guard, "Node.Example:443", None).expect("configured");
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.8",
            "8.8.8.8:80",
            "",
            "[::2]",
            "127.0.0.1@evil.example",
            "localhost:80:80",
            "[[127.0.0.1]]:80",
            "[127.0.0.1]",
            "[::1",
            "::1",
        ] {
            let denied = check(&guard, host, None).expect_err(host);
            assert_eq!(denied.status, StatusCode::FORBIDDEN, "{host}");
        }
    }

    #[test]
    fn the_host_must_be_there_once_and_agree_with_the_request_line() {
        let guard = Guard::default();
        let mut headers = HeaderMap::new();
        assert!(guard.check(&Uri::from_static("/"), &headers, LOCAL).is_err());
        headers.append(HOST, HeaderValue::from_static("localhost"));
        guard.check(&Uri::from_static("/"), &headers, LOCAL).expect("one");
        assert!(guard.check(&Uri::from_static("http://evil.example/"), &headers, LOCAL).is_err());
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert!(guard.check(&Uri::from_static("/"), &headers, LOCAL).is_err());
    }

    #[test]
    fn a_configured_address_is_allowed_as_the_remedy_says() {
        let hosts = ["192.0.2.10", "2001:DB8:0::1"].map(canonical_host).to_vec();
        let guard = Guard { hosts, origins: Vec::new() };
        for host in ["192.0.2.10", "192.0.2.10:26501", "[2001:db8::1]:1", "[2001:DB8:0::1]"] {
            check(&guard, host, None).unwrap_or_else(|denied| panic!("{host}: {denied:?}"));
        }
        let remedy = |host, local: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            let denied = Guard::default().check(&Uri::from_static("/"), &headers, local.parse().expect("an address"));
            denied.expect_err(host).remedy
        };
        assert_eq!(
            remedy("[2001:db8::1]:80", "::1"),
            "use the address, as in http://[::1], or start the node with --rpc-allow-host 2001:db8::1"
        );
        assert_eq!(
            remedy("192.0.2.10:80", "::ffff:10.0.0.7"),
            "use the address, as in http://10.0.0.7, or start the node with --rpc-allow-host 192.0.2.10"
        );
    }

    #[test]
    fn what_another_site_makes_a_browser_load_is_refused() {
        let origin = "https://wallet.example";
        let guard = Guard { hosts: Vec::new(), origins: vec![origin.into()] };
        let from = |site: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("localhost"));
            headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
            headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
            guard.check(&Uri::from_static("/metrics"), &headers, LOCAL)
        };
        for site in ["cross-site", "same-site", "something new"] {
            assert!(from(site, None).is_err(), "{site}");
            from(site, Some(origin)).expect("an allowed page");
        }
        let mut link = HeaderMap::new();
        let lines = [("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        link.extend(lines.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))));
        for (what, allowed) in [("document", true), ("iframe", false), ("image", false)] {
            link.insert(SEC_FETCH_DEST, HeaderValue::from_static(what));
            assert_eq!(guard.check(&Uri::from_static("/ready"), &link, LOCAL).is_ok(), allowed, "{what}");
        }
        for site in ["none", "same-origin"] {
            from(site, None).unwrap_or_else(|denied| panic!("{site}: {denied:?}"));
        }
    }

    #[test]
    fn an_origin_is_refused_unless_configured() {
        let guard = Guard { hosts: Vec::new(), origins: vec!["https://wallet.example".into(), "null".into()] };
        assert_eq!(check(&guard, "localhost", None).expect("none"), None);
        check(&guard, "localhost", Some("https://wallet.example")).expect("configured").expect("returned");
        for origin in ["http://wallet.example", "https://evil.example", "http://localhost", "null"] {
            assert!(check(&guard, "localhost", Some(origin)).is_err(), "{origin}");
        }
    }
}
