//! Whether the host ports of a release are free: tried by binding, without ever listening.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketType, bind, ipproto, socket};

use super::compile::PublishedPort;
use crate::engine::types::Container;

/// Ports of `wanted` that something other than `ours` uses, as sentences.
pub fn taken(wanted: &[PublishedPort], ours: &[&Container]) -> Vec<String> {
    let is_ours = |port: &PublishedPort| {
        ours.iter()
            .flat_map(|c| &c.ports)
            .any(|used| used.host_port == port.port && used.protocol == port.protocol)
    };
    wanted
        .iter()
        .filter(|port| !is_ours(port) && !is_free(port))
        .map(|port| {
            let ip = if port.host_ip.is_empty() { "0.0.0.0" } else { &port.host_ip };
            format!(
                "{ip}:{}/{} of service {} is in use by another program",
                port.port, port.protocol, port.service
            )
        })
        .collect()
}

/// Whether it can be bound. What cannot be tried (an address that this host does not have, SCTP) is left to the engine.
fn is_free(port: &PublishedPort) -> bool {
    let ip: IpAddr = match port.host_ip.as_str() {
        "" => Ipv4Addr::UNSPECIFIED.into(),
        text => match text.parse() {
            Ok(ip) => ip,
            Err(_) => return true,
        },
    };
    let (kind, protocol) = match port.protocol.as_str() {
        "tcp" => (SocketType::STREAM, ipproto::TCP),
        "udp" => (SocketType::DGRAM, ipproto::UDP),
        _ => return true,
    };
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let Ok(socket) = socket(family, kind, Some(protocol)) else { return true };
    // A socket in TIME_WAIT is no reason to refuse; one that listens is.
    if kind == SocketType::STREAM {
        let _ = rustix::net::sockopt::set_socket_reuseaddr(&socket, true);
    }
    !matches!(bind(&socket, &SocketAddr::new(ip, port.port)), Err(rustix::io::Errno::ADDRINUSE))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::engine::types::PortInUse;

    fn port(number: u16, protocol: &str) -> PublishedPort {
        PublishedPort {
            service: "web".into(),
            host_ip: "127.0.0.1".into(),
            port: number,
            protocol: protocol.into(),
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_its_service() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let taken = taken(&[port(number, "tcp")], &[]);
        assert!(taken[0].contains(&number.to_string()) && taken[0].contains("web"), "{taken:?}");
    }

    #[test]
    fn udp_is_tried_too() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = socket.local_addr().unwrap().port();
        assert_eq!(taken(&[port(number, "udp")], &[]).len(), 1);
    }

    #[test]
    fn a_free_port_and_one_of_our_own_are_fine() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let used =
            PortInUse { host_ip: "127.0.0.1".into(), host_port: number, target: 80, protocol: "tcp".into() };
        let container = Container { ports: vec![used], ..Container::default() };
        assert!(taken(&[port(number, "tcp")], &[&container]).is_empty());
        drop(listener);
        assert!(taken(&[port(number, "tcp")], &[]).is_empty());
    }
}
