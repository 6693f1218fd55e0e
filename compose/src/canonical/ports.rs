//! Ports in short form: `[[ADDRESS:][PUBLISHED]:]TARGET[/PROTOCOL]`, each port a number or a range.
//!
//! Ranges of equal length pair up, port by port. A published range for one target stays a range, from which the
//! engine picks.

use core::net::IpAddr;

/// Bytes of a short form.
const MAX_LENGTH: usize = 200;

/// One port, short form written out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) host_ip: String,
    pub(crate) published: String,
    pub(crate) target: u16,
    pub(crate) protocol: String,
}

/// Reads a short form.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub(crate) fn parse(text: &str) -> Result<Vec<Parsed>, String> {
    if text.len() > MAX_LENGTH {
        return Err("it is longer than any port".to_owned());
    }
    let (host_ip, published, target) = split(text);
    let (target, protocol) = match target.split_once('/') {
        Some((target, "")) => (target, "tcp".to_owned()),
        Some((target, protocol)) => (target, protocol.to_lowercase()),
        None => (target, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("the protocol must be tcp, udp or sctp, and is {protocol}"));
    }
    let host_ip = match host_ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')) {
        Some(bare) => bare,
        None if host_ip.contains(':') => {
            return Err("an IPv6 address must stand in brackets: `[::1]:80:80`".to_owned());
        }
        None => host_ip,
    };
    if !host_ip.is_empty() && host_ip.parse::<IpAddr>().is_err() {
        return Err("what stands before the ports is not an IP address".to_owned());
    }
    if target.is_empty() {
        return Err("the port in the container is missing".to_owned());
    }
    let (first, last) = range(target)?;
    if first == 0 {
        return Err("the port in the container cannot be 0".to_owned());
    }
    let host = if published.is_empty() { None } else { Some(range(published)?) };
    if let Some((low, high)) = host
        && high - low != last - first
        && first != last
    {
        return Err("the two ranges differ in length".to_owned());
    }
    let port = |target: u16| Parsed {
        host_ip: host_ip.to_owned(),
        published: match host {
            None => String::new(),
            Some((low, high)) if first == last && low != high => format!("{low}-{high}"),
            Some((low, _)) => (low + (target - first)).to_string(),
        },
        target,
        protocol: protocol.clone(),
    };
    let mut ports: Vec<Parsed> = (first..=last).map(port).collect();
    // By text, as Docker Compose orders the ports of a range.
    ports.sort_by_key(|port| port.target.to_string());
    Ok(ports)
}

/// Address, published and target parts; the address may contain colons itself.
fn split(text: &str) -> (&str, &str, &str) {
    match text.rsplit_once(':') {
        None => ("", "", text),
        Some((rest, target)) => match rest.rsplit_once(':') {
            None => ("", rest, target),
            Some((ip, published)) => (ip, published, target),
        },
    }
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        let valid = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if valid { text.parse::<u16>().ok() } else { None };
        number.ok_or_else(|| "a port must be a number from 0 to 65535, or a range of them".to_owned())
    };
    let (low, high) = match text.split_once('-') {
        Some((low, high)) => (port(low)?, port(high)?),
        None => {
            let port = port(text)?;
            (port, port)
        }
    };
    if low > high { Err("the range ends before it starts".to_owned()) } else { Ok((low, high)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |p: Parsed| format!("{}|{}|{}/{}", p.host_ip, p.published, p.target, p.protocol);
        parse(text).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn every_short_form_is_read() {
        for (text, expected) in [
            ("80", &["||80/tcp"][..]),
            ("8080:80", &["|8080|80/tcp"]),
            ("53:53/udp", &["|53|53/udp"]),
            ("127.0.0.1:8080:80", &["127.0.0.1|8080|80/tcp"]),
            ("127.0.0.1::53/UDP", &["127.0.0.1||53/udp"]),
            ("[::1]:80:80", &["::1|80|80/tcp"]),
            ("9000-9010:80", &["|9000-9010|80/tcp"]),
            ("3000-3001", &["||3000/tcp", "||3001/tcp"]),
            ("49100-49101:22-23", &["|49100|22/tcp", "|49101|23/tcp"]),
            ("9-10:9-10", &["|10|10/tcp", "|9|9/tcp"]),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for text in [
            "",
            "x",
            "80/icmp",
            "1.2.3:80:80",
            "70000",
            "90-80",
            "1-3:1-2",
            "a:80",
            "80:",
            "+80",
            "-",
            "1-2-3",
            "80:0",
            "::1:80:80",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
