//! Which HTTP CONNECT proxy to go through, if any. Pure: the environment is passed in.
//!
//! The configuration's `proxy` comes first, then `HTTPS_PROXY`, then `ALL_PROXY`, in either case. `NO_PROXY`
//! exempts hosts, domains, addresses and networks from all of them. As everywhere, a proxy from the environment is not
//! used for loopback; one that the configuration names is.

use std::net::IpAddr;

use base64::Engine as _;
use zeroize::Zeroizing;

use super::dial::Address;
use crate::codes;
use crate::problem::Problem;

/// Port of a proxy that names none.
const DEFAULT_PORT: u16 = 3128;

/// A proxy. Does not print its password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// Where it is.
    pub(super) address: Address,
    /// The value of `Proxy-Authorization`.
    pub(super) authorization: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({})", self.address)
    }
}

/// What the environment says about proxies.
#[derive(Clone, Default)]
pub(super) struct Environment {
    /// `HTTPS_PROXY` or `ALL_PROXY`.
    pub(super) proxy: Option<String>,
    /// `NO_PROXY`.
    pub(super) exempt: Option<String>,
}

impl Environment {
    /// Reads it through `get`, lower case first, as curl does.
    pub(super) fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| get(name).filter(|v| !v.is_empty()));
        Self {
            proxy: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            exempt: first(&["no_proxy", "NO_PROXY"]),
        }
    }

    /// This process's.
    pub(super) fn of_process() -> Self {
        Self::read(|name| std::env::var(name).ok())
    }
}

/// The proxy to reach `hub` through; `None` for a direct connection.
///
/// # Errors
/// [`codes::CONFIG`] when a proxy is named that cannot be one, without its password.
pub(super) fn choose(
    configured: Option<&str>,
    environment: &Environment,
    hub: &Address,
) -> Result<Option<Proxy>, Problem> {
    if environment.exempt.as_deref().is_some_and(|list| is_exempt(list, hub)) {
        return Ok(None);
    }
    match (configured.filter(|url| !url.is_empty()), &environment.proxy) {
        (Some(url), _) => parse(url, "proxy in the configuration").map(Some),
        (None, Some(url)) if !hub.is_loopback() => parse(url, "HTTPS_PROXY in the environment").map(Some),
        _ => Ok(None),
    }
}

fn parse(url: &str, place: &str) -> Result<Proxy, Problem> {
    let wrong = |why: &str| Problem::new(&codes::CONFIG, format!("{place}: {why}"));
    let rest = match url.split_once("://") {
        None => url,
        Some(("http", rest)) => rest,
        Some(_) => return Err(wrong("only http:// proxies are supported")),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let address =
        Address::parse_authority(host, DEFAULT_PORT).ok_or_else(|| wrong("it must be http://HOST:PORT"))?;
    let authorization = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let mut plain = Zeroizing::new(percent_decoded(name));
        plain.push(b':');
        plain.extend_from_slice(&Zeroizing::new(percent_decoded(password)));
        Zeroizing::new(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(&*plain)))
    });
    Ok(Proxy { address, authorization })
}

/// `%40` is `@`. What is no escape stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let mut byte = [0];
                hex::decode_to_slice([*high, *low], &mut byte).ok().map(|()| (byte[0], after))
            }
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, tail));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

fn is_exempt(list: &str, hub: &Address) -> bool {
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| matches(entry, hub))
}

/// `*`, `host`, `.domain` or `domain` with all below it, `address`, `network/bits`; each but the last with `:port`.
fn matches(entry: &str, hub: &Address) -> bool {
    if entry == "*" {
        return true;
    }
    if let (Some((network, bits)), Ok(ip)) = (entry.split_once('/'), hub.host.parse::<IpAddr>()) {
        return network.parse().is_ok_and(|network| in_network(ip, network, bits));
    }
    if let Ok(ip) = entry.parse::<IpAddr>() {
        return hub.host.parse() == Ok(ip);
    }
    let Some(entry) = Address::parse_authority(entry.trim_start_matches("*."), 0) else { return false };
    if entry.port != 0 && entry.port != hub.port {
        return false;
    }
    let domain = entry.host.trim_start_matches('.').to_ascii_lowercase();
    let host = hub.host.to_ascii_lowercase();
    host.strip_suffix(&domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn in_network(ip: IpAddr, network: IpAddr, bits: &str) -> bool {
    let Ok(bits) = bits.parse::<u32>() else { return false };
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(ip) & mask == u32::from(network) & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(ip) & mask == u128::from(network) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(host: &str) -> Address {
        Address { host: host.into(), port: 8443 }
    }

    fn chosen(configured: Option<&str>, env: &str, exempt: &str, host: &str) -> Option<String> {
        let environment = Environment {
            proxy: Some(env.into()).filter(|e: &String| !e.is_empty()),
            exempt: Some(exempt.into()),
        };
        choose(configured, &environment, &hub(host)).unwrap().map(|proxy| proxy.address.to_string())
    }

    #[test]
    fn the_configuration_comes_first_and_loopback_needs_it() {
        let cases = [
            (None, "", "", "hub.example.com", None),
            (None, "http://env:1", "", "hub.example.com", Some("env:1")),
            (Some("http://conf:2"), "http://env:1", "", "hub.example.com", Some("conf:2")),
            (Some(""), "http://env:1", "", "hub.example.com", Some("env:1")),
            (None, "http://env:1", "", "127.0.0.1", None),
            (None, "http://env:1", "", "localhost", None),
            (Some("http://conf:2"), "", "", "127.0.0.1", Some("conf:2")),
            (Some("conf"), "", "", "h", Some("conf:3128")),
            (Some("http://[::1]:8080/"), "", "", "h", Some("[::1]:8080")),
            (Some("http://conf:2"), "", "example.com", "hub.example.com", None),
        ];
        for (configured, env, exempt, host, expected) in cases {
            assert_eq!(
                chosen(configured, env, exempt, host).as_deref(),
                expected,
                "{configured:?} {env} {host}"
            );
        }
    }

    #[test]
    fn exemptions_are_names_domains_addresses_and_networks() {
        let cases = [
            ("*", "hub.example.com", true),
            ("example.com", "hub.example.com", true),
            (".example.com", "hub.example.com", true),
            ("*.example.com", "hub.example.com", true),
            ("EXAMPLE.com", "hub.example.COM", true),
            ("ample.com", "hub.example.com", false),
            ("hub.example.com:8443", "hub.example.com", true),
            ("hub.example.com:443", "hub.example.com", false),
            ("a, b ,10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/200", "fd12::1", false),
            ("10.0.0.0/8", "hub.example.com", false),
            ("", "hub.example.com", false),
        ];
        for (list, host, expected) in cases {
            assert_eq!(is_exempt(list, &hub(host)), expected, "{list} {host}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_printed() {
        let proxy = parse("http://me%40work:p%3ass%zz@proxy:8080", "here").unwrap();
        let expected = base64::engine::general_purpose::STANDARD.encode("me@work:p:ss%zz");
        assert_eq!(proxy.authorization.as_deref().unwrap(), &format!("Basic {expected}"));
        assert!(!format!("{proxy:?}").contains("Basic"));
        for bad in [
            "https://u:hunter2@p:1",
            "http://u:hunter2@:x",
            "socks5://u:hunter2@h",
            "http://u:hunter2@h:99999",
        ] {
            let problem = parse(bad, "here").unwrap_err();
            assert!(!problem.message.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn lower_case_variables_win_and_empty_ones_do_not_count() {
        let environment = Environment::read(|name| match name {
            "https_proxy" => Some(String::new()),
            "HTTPS_PROXY" => Some("http://upper:1".into()),
            "NO_PROXY" => Some("x".into()),
            _ => None,
        });
        assert_eq!(
            (environment.proxy.as_deref(), environment.exempt.as_deref()),
            (Some("http://upper:1"), Some("x"))
        );
    }
}
