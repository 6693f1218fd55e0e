//! The DSSE envelope: raw payload bytes, their type, and signatures over both.
//!
//! Format and the signed text (pre-authentication encoding) are those of DSSE v1. The payload stays bytes
//! until its signatures have been checked, so no canonical JSON is needed and no parser sees unsigned text
//! but the envelope's own. `keyid` only says which key to try: it never makes a signature count.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::json::{self, JsonError};

/// More signatures than this are refused: each costs a curve operation.
pub const MAX_SIGNATURES: usize = 64;

/// An envelope as it was read; nothing in it is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What the payload claims to be.
    pub payload_type: String,
    /// The signed bytes.
    pub payload: Vec<u8>,
    /// In the order given.
    pub signatures: Vec<Signature>,
}

/// One signature of an [`Envelope`], of whatever length and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Hint: hexadecimal SHA-256 of the raw public key.
    pub keyid: String,
    /// The signature's bytes.
    pub sig: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct WireEnvelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
struct WireSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

impl Envelope {
    /// Reads an envelope: strict JSON, strict base64 (padding present, no stray bits, no white space).
    ///
    /// # Errors
    /// [`JsonError`] when it is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let wire: WireEnvelope = json::document(bytes)?;
        if wire.signatures.len() > MAX_SIGNATURES {
            return Err(JsonError::Malformed(format!("more than {MAX_SIGNATURES} signatures")));
        }
        let decode = |field: &str, text: &str| {
            STANDARD
                .decode(text)
                .map_err(|error| JsonError::Malformed(format!("`{field}` is not base64: {error}")))
        };
        let signatures = wire
            .signatures
            .iter()
            .map(|one| Ok(Signature { keyid: one.keyid.clone(), sig: decode("sig", &one.sig)? }))
            .collect::<Result<_, _>>()?;
        let payload = decode("payload", &wire.payload)?;
        Ok(Self { payload_type: wire.payload_type, payload, signatures })
    }

    /// The envelope as text, compact, the same every time.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = WireEnvelope {
            payload_type: self.payload_type.clone(),
            payload: STANDARD.encode(&self.payload),
            signatures: self
                .signatures
                .iter()
                .map(|one| WireSignature { keyid: one.keyid.clone(), sig: STANDARD.encode(&one.sig) })
                .collect(),
        };
        // Strings and lists only: this cannot fail, and an empty envelope would verify nowhere.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// The bytes that signatures are made over.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        signed_bytes(&self.payload_type, &self.payload)
    }
}

/// DSSE's pre-authentication encoding: `DSSEv1 LEN(type) type LEN(payload) payload`.
#[must_use]
pub fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_bytes_are_those_of_the_dsse_specification() {
        assert_eq!(
            signed_bytes("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn an_envelope_survives_its_text_and_sloppy_base64_does_not() {
        let envelope = Envelope {
            payload_type: "t".into(),
            payload: b"{}x".to_vec(),
            signatures: vec![Signature { keyid: "k".into(), sig: vec![1, 2] }],
        };
        assert_eq!(Envelope::parse(&envelope.encode()).unwrap(), envelope);
        for sig in ["AQJ=", "AQI", "AQI= ", "A-_=", "AQI=\\n"] {
            let text = format!(r#"{{"payloadType":"t","payload":"","signatures":[{{"sig":"{sig}"}}]}}"#);
            assert!(Envelope::parse(text.as_bytes()).is_err(), "{sig}");
        }
        let many = vec![r#"{"sig":""}"#; MAX_SIGNATURES + 1].join(",");
        let text = format!(r#"{{"payloadType":"t","payload":"","signatures":[{many}]}}"#);
        assert!(Envelope::parse(text.as_bytes()).is_err());
        assert!(Envelope::parse(br#"{"payloadType":"t","payload":""}"#).is_err(), "stripped of signatures");
    }
}
