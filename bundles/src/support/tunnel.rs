//! The tunnel between engineer and host, through a hub that must not read it: Noise `KK` over X25519, ChaCha20-Poly1305 and
//! SHA-256, by the library `snow`.
//!
//! Both sides know the other's public key from the signed request, and both mix the digest of its bytes into the handshake:
//! whoever lacks the engineer's or the host's private key, or has another request in mind, gets nowhere. Every
//! message carries the next number implicitly; one that is replayed, reordered, left out or changed does not decrypt, and a
//! tunnel in which that happens once is over. Keys are fresh for each tunnel, so that a key stolen later reads nothing.

use snow::{Builder, HandshakeState, TransportState};
use zeroize::Zeroizing;

use crate::digest::Digest;

const PATTERN: &str = "Noise_KK_25519_ChaChaPoly_SHA256";
/// Longest message, bytes: Noise's own bound.
const LONGEST: usize = 65_535;
/// Bytes that sealing adds.
const TAG: usize = 16;
/// Longest content of a message, bytes.
pub const MAX_CONTENT: usize = LONGEST - TAG;

/// What went wrong. Deliberately little: nobody learns from it which check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A key that is none.
    #[error("a key of the session is not usable")]
    Key,
    /// The other side does not hold the key it should, or speaks about another request.
    #[error("the other side could not prove who it is")]
    Handshake,
    /// Changed, replayed, reordered or left out on its way.
    #[error("a message was tampered with on its way")]
    Message,
    /// Longer than [`MAX_CONTENT`].
    #[error("a message is too long")]
    Length,
}

/// A private key, kept for as long as it is needed and wiped after.
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl PrivateKey {
    /// A new pair; the public half in hexadecimal.
    ///
    /// # Errors
    /// [`Broken::Key`] when the system has no randomness.
    pub fn generate() -> Result<(Self, String), Broken> {
        let pair = builder()?.generate_keypair().map_err(|_| Broken::Key)?;
        Ok((Self(Zeroizing::new(pair.private)), hex::encode(pair.public)))
    }

    /// From what [`PrivateKey::reveal`] gave.
    ///
    /// # Errors
    /// [`Broken::Key`] when these are not 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, Broken> {
        let bytes = Zeroizing::new(hex::decode(text.trim()).map_err(|_| Broken::Key)?);
        if bytes.len() == 32 { Ok(Self(bytes)) } else { Err(Broken::Key) }
    }

    /// In hexadecimal, for a file that only its owner may read.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(&*self.0))
    }
}

/// A tunnel whose first half is done.
#[derive(Debug)]
pub struct Opening(HandshakeState);

/// The engineer's first message.
///
/// # Errors
/// [`Broken::Key`].
pub fn open(own: &PrivateKey, host_key: &str, request: Digest) -> Result<(Opening, Vec<u8>), Broken> {
    let theirs = hex::decode(host_key).map_err(|_| Broken::Key)?;
    let mut state = prepared(own, &theirs, &request)?.build_initiator().map_err(|_| Broken::Key)?;
    let mut message = vec![0; 128];
    let length = state.write_message(&[], &mut message).map_err(|_| Broken::Handshake)?;
    message.truncate(length);
    Ok((Opening(state), message))
}

impl Opening {
    /// The host's answer makes it a tunnel.
    ///
    /// # Errors
    /// [`Broken::Handshake`].
    pub fn complete(mut self, answer: &[u8]) -> Result<Tunnel, Broken> {
        self.0.read_message(answer, &mut [0; 128]).map_err(|_| Broken::Handshake)?;
        self.0.into_transport_mode().map(Tunnel).map_err(|_| Broken::Handshake)
    }
}

/// The host's answer to an engineer's first message, and its end of the tunnel.
///
/// # Errors
/// [`Broken::Key`], or [`Broken::Handshake`] when the message is not by the key in the request, or about another one.
pub fn accept(
    own: &PrivateKey,
    session_key: &str,
    request: Digest,
    message: &[u8],
) -> Result<(Tunnel, Vec<u8>), Broken> {
    let theirs = hex::decode(session_key).map_err(|_| Broken::Key)?;
    let mut state = prepared(own, &theirs, &request)?.build_responder().map_err(|_| Broken::Key)?;
    state.read_message(message, &mut [0; 128]).map_err(|_| Broken::Handshake)?;
    let mut answer = vec![0; 128];
    let length = state.write_message(&[], &mut answer).map_err(|_| Broken::Handshake)?;
    answer.truncate(length);
    let tunnel = state.into_transport_mode().map(Tunnel).map_err(|_| Broken::Handshake)?;
    Ok((tunnel, answer))
}

fn builder<'a>() -> Result<Builder<'a>, Broken> {
    PATTERN.parse().map(Builder::new).map_err(|_| Broken::Key)
}

fn prepared<'a>(own: &'a PrivateKey, theirs: &'a [u8], request: &'a Digest) -> Result<Builder<'a>, Broken> {
    let keyed = builder()?.local_private_key(&own.0).and_then(|builder| builder.remote_public_key(theirs));
    keyed.and_then(|builder| builder.prologue(request.as_bytes())).map_err(|_| Broken::Key)
}

/// One end of a tunnel.
#[derive(Debug)]
pub struct Tunnel(TransportState);

impl Tunnel {
    /// Seals a message for the other end.
    ///
    /// # Errors
    /// [`Broken::Length`].
    pub fn seal(&mut self, content: &[u8]) -> Result<Vec<u8>, Broken> {
        if content.len() > MAX_CONTENT {
            return Err(Broken::Length);
        }
        let mut message = vec![0; content.len() + TAG];
        let length = self.0.write_message(content, &mut message).map_err(|_| Broken::Length)?;
        message.truncate(length);
        Ok(message)
    }

    /// Opens the other end's next message.
    ///
    /// # Errors
    /// [`Broken::Message`]; the tunnel is not to be used after that.
    pub fn unseal(&mut self, message: &[u8]) -> Result<Vec<u8>, Broken> {
        if message.len() > LONGEST || message.len() < TAG {
            return Err(Broken::Message);
        }
        let mut content = vec![0; message.len()];
        let length = self.0.read_message(message, &mut content).map_err(|_| Broken::Message)?;
        content.truncate(length);
        Ok(content)
    }
}
