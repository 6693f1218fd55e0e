//! Names to addresses as the engine's DNS server gives them, in its order: every request asks anew.

use std::io::{self, Error};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

/// As long as the C library waits, but only once.
const PATIENCE: Duration = Duration::from_secs(5);

/// IPv4 addresses of a name.
pub(crate) async fn resolve(name: &str) -> io::Result<Vec<Ipv4Addr>> {
    let text = std::fs::read_to_string("/etc/resolv.conf")?;
    let server =
        text.lines().find_map(|line| line.strip_prefix("nameserver ")?.trim().parse::<IpAddr>().ok());
    let server = SocketAddr::new(server.ok_or_else(|| Error::other("no name server"))?, 53);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(server).await?;
    let id: u16 = rand::random();
    socket.send(&question(id, name)).await?;
    let mut answer = [0; 1500];
    loop {
        let length = tokio::time::timeout(PATIENCE, socket.recv(&mut answer))
            .await
            .map_err(|_| Error::other("the name server does not answer"))??;
        let answer = answer.get(..length).unwrap_or_default();
        if answer.starts_with(&id.to_be_bytes()) {
            let found =
                addresses(answer).ok_or_else(|| Error::other("a broken answer of the name server"))?;
            return if found.is_empty() { Err(Error::other("no such name")) } else { Ok(found) };
        }
    }
}

/// RFC 1035, section 4.1: one question for A records, recursion desired.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap_or(63));
        packet.extend(label.as_bytes());
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// The A records of an answer.
fn addresses(packet: &[u8]) -> Option<Vec<Ipv4Addr>> {
    let number = |at: usize| Some(usize::from(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?])));
    let mut at = after_name(packet, 12)? + 4;
    let mut found = Vec::new();
    for _ in 0..number(6)? {
        at = after_name(packet, at)?;
        let (kind, length) = (number(at)?, number(at + 8)?);
        let data = packet.get(at + 10..at + 10 + length)?;
        if let (1, Ok(address)) = (kind, <[u8; 4]>::try_from(data)) {
            found.push(address.into());
        }
        at += 10 + length;
    }
    Some(found)
}

/// A name ends with an empty label or with a pointer of two bytes.
fn after_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_their_order() {
        let mut packet = question(7, "web");
        packet[7] = 2;
        for last in [9, 4] {
            packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 172, 18, 0, last]);
        }
        let expected = [Ipv4Addr::new(172, 18, 0, 9), Ipv4Addr::new(172, 18, 0, 4)];
        assert_eq!(addresses(&packet).unwrap(), expected);
        assert_eq!(addresses(&packet[..packet.len() - 1]), None);
        assert_eq!(addresses(&question(7, "web")).unwrap(), Vec::<Ipv4Addr>::new());
    }
}
