//! Signatures, roots, numbers, dates and JSON: the documents that say what may be believed.

use kedge_bundle::assemble::assemble;
use kedge_bundle::codes;
use kedge_bundle::envelope::Envelope;
use kedge_bundle::json::MAX_SIZE;
use kedge_bundle::roles::{Audience, MAX_NUMBER, PublicKey, Role, Root};
use kedge_bundle::sign::{self, Signer};
use kedge_bundle::testing::{Vendor, file, key, product};

use super::Brought::{Core, File, Steps};
use super::stage::SEQ;
use super::tamper::{altered, document, entry, envelope, good, payload, release, rooted, rotated, span};
use super::{Case, core};

/// Cases 1 to 30.
pub(super) fn cases() -> Vec<Case> {
    let case = |number, name, code, make| Case { number, name, wanted: Some(code), brought: File(make) };
    let core =
        |number, name, code, attempt| Case { number, name, wanted: Some(code), brought: Core(attempt) };
    vec![
        case("1", "unsigned initial root", codes::UNSIGNED, |v| {
            first_root(v, |envelope| envelope.signatures.clear())
        }),
        case("1", "initial root signed by too few", codes::UNSIGNED, |v| {
            first_root(v, |envelope| envelope.signatures.truncate(1))
        }),
        case("2", "initial root that is no root", codes::DOCUMENT, |v| {
            first_root(v, |envelope| envelope.payload = b"{\"format\":1}".to_vec())
        }),
        case("2", "initial root of a stranger", codes::UNKNOWN_ROOT, |v| good(&stranger(v)).bytes()),
        case("3", "release that nobody signed", codes::UNSIGNED, |v| envelope(v, |e| e.signatures.clear())),
        case("3", "release signed by a stranger", codes::UNSIGNED, |v| {
            good(v).resigned(Role::Release, &[&key("stranger", 1)], |_| {}).bytes()
        }),
        case("3", "release signed by root keys", codes::UNSIGNED, |v| {
            good(v).resigned(Role::Release, &[&v.root_keys[0], &v.root_keys[1]], |_| {}).bytes()
        }),
        case("4", "root rotated without the old keys", codes::UNSIGNED, |v| {
            let new = [key("new", 1), key("new", 2)];
            rotated(v, &[], &[&new[0], &new[1]], |root| root.roles.root.keys = listed(&new))
        }),
        case("5", "root rotated without the new keys", codes::UNSIGNED, |v| {
            let new = [key("new", 1), key("new", 2)];
            rotated(v, &[0, 1], &[], |root| root.roles.root.keys = listed(&new))
        }),
        case("6", "root threshold raised and not met", codes::UNSIGNED, |v| {
            rotated(v, &[0, 1], &[], |root| root.roles.root.threshold = 3)
        }),
        case("7", "root threshold lowered, the old one not met", codes::UNSIGNED, |v| {
            rotated(v, &[0], &[], |root| root.roles.root.threshold = 1)
        }),
        case("8", "root version skipped", codes::ROOT_CHAIN, |v| {
            rotated(v, &[0, 1], &[], |root| root.version += 1)
        }),
        case("8", "root version repeated", codes::ROOT_CHAIN, |v| {
            rotated(v, &[0, 1], &[], |root| root.version -= 1)
        }),
        case("9", "root that lists one key twice", codes::DOCUMENT, |v| {
            rotated(v, &[0, 1], &[], |root| {
                let twice = root.roles.root.keys[0].clone();
                root.roles.root.keys.push(twice);
            })
        }),
        case("10", "one key's signature twice for a threshold of two", codes::UNSIGNED, |v| {
            two_of_two(v, false)
        }),
        case("10", "one key's signature under both keys' names", codes::UNSIGNED, |v| two_of_two(v, true)),
        case("11", "root with fewer keys than must sign", codes::DOCUMENT, |v| {
            rotated(v, &[0, 1], &[], |root| root.roles.release.threshold = 2)
        }),
        case("11", "root with a threshold of zero", codes::DOCUMENT, |v| {
            rotated(v, &[0, 1], &[], |root| root.roles.release.threshold = 0)
        }),
        case("11", "root with a role without keys", codes::DOCUMENT, |v| {
            rotated(v, &[0, 1], &[], |root| root.roles.release.keys.clear())
        }),
        case("12", "wrong payload type", codes::PAYLOAD_TYPE, |v| {
            envelope(v, |envelope| envelope.payload_type = "application/json".into())
        }),
        case("13", "same number, other content", codes::EQUIVOCATION, |v| {
            release(v, |release| (release.seq, release.notes) = (SEQ, Some("other".into())))
        }),
        case("14", "rollback of the release", codes::ROLLBACK, |v| {
            release(v, |release| release.seq = SEQ - 1)
        }),
        core("14", "rollback of the hub's statement", codes::FRESH_ROLLBACK, core::older_statement),
        core(
            "14",
            "a statement that lists an older release",
            codes::FRESH_ROLLBACK,
            core::older_release_listed,
        ),
        case("15", "role removed from the root", codes::DOCUMENT, |v| {
            let mut root = serde_json::to_value(next(v)).expect("JSON");
            root["roles"].as_object_mut().expect("an object").remove("fresh");
            rooted(v, root.to_string().as_bytes(), &[0, 1], &[])
        }),
        case("16", "index that is not the one signed", codes::CONTENT, |v| {
            altered(v, |bytes| {
                let at = entry(bytes, "index.json") + 600;
                bytes[at] ^= 1;
            })
        }),
        case("17", "file name and version disagree", codes::ROOT_CHAIN, |v| {
            let mut other = v.clone();
            other.envelopes.reverse();
            let mut root = next(v);
            root.version = 5;
            let signers = [&v.root_keys[0] as &dyn Signer, &v.root_keys[1]];
            other.envelopes[0] = sign::root(&root, &signers).expect("signed");
            good(&other).bytes()
        }),
        case("18", "expired root", codes::ROOT_EXPIRED, |v| {
            rotated(v, &[0, 1], &[], |root| root.expires = v.now - jiff::SignedDuration::from_secs(1))
        }),
        case("18", "expired release", codes::RELEASE_EXPIRED, |v| {
            release(v, |release| release.expires = v.now)
        }),
        core("18", "expired statement", codes::FRESH_EXPIRED, core::expired_statement),
        Case {
            number: "19",
            name: "numbers below a fast-forward",
            wanted: Some(codes::BELOW_FLOOR),
            brought: Steps(super::accepted::after_a_fast_forward),
        },
        case("20", "a good root beside a release that is refused", codes::UNSIGNED, |v| {
            cached_root(v, "one")
        }),
        case("20", "another root of that version: the first was not kept", codes::UNSIGNED, |v| {
            cached_root(v, "two")
        }),
        case("21", "layer content substituted", codes::CONTENT, |v| {
            altered(v, |bytes| {
                let last = last_blob(bytes);
                bytes[last + 512] ^= 1;
            })
        }),
        case("22", "unknown hash algorithm", codes::DOCUMENT, |v| {
            payload(v, |text| *text = text.replace("sha256:", "sha512:"))
        }),
        case("22", "digest in capitals", codes::DOCUMENT, |v| {
            payload(v, |text| {
                let at = text.find("sha256:").expect("a digest") + 7;
                let digits = text[at..at + 64].to_ascii_uppercase();
                text.replace_range(at..at + 64, &digits);
            })
        }),
        case("23", "product that is a path", codes::DOCUMENT, |v| {
            release(v, |release| release.product = "../../etc".into())
        }),
        case("23", "root document under a name with ..", codes::ARCHIVE, |v| {
            altered(v, |bytes| {
                let whole = span(bytes, entry(bytes, "root/1.json"));
                let content = v.envelopes[0].clone();
                let mut other =
                    super::tamper::forged("kedge/root/../root/1.json", content.len() as u64, |_| {});
                other.extend_from_slice(&bytes[whole.start + 512..whole.end]);
                bytes.splice(whole, other);
            })
        }),
        case("24", "root document in the release's place", codes::PAYLOAD_TYPE, |v| {
            document(v, &v.envelopes[0])
        }),
        case("24", "statement in the release's place", codes::PAYLOAD_TYPE, |v| {
            document(v, &v.fresh(v.now, &[&good(v)]))
        }),
        case("25", "payload without its envelope", codes::DOCUMENT, |v| {
            document(v, &serde_json::to_vec(&good(v).release).expect("JSON"))
        }),
        case("26", "licence shown as a release", codes::PAYLOAD_TYPE, licence),
        case("26", "release signed with the licence key", codes::UNSIGNED, |v| {
            good(v).resigned(Role::Release, &[&v.licence_key], |_| {}).bytes()
        }),
        case("27", "release for another site", codes::SITE, |v| {
            release(v, |release| release.audience = Audience::Sites(vec!["there".into()]))
        }),
        case("27", "release for no site", codes::SITE, |v| {
            release(v, |release| release.audience = Audience::Sites(vec![]))
        }),
        case("27", "another product in this deployment's place", kedge::codes::OTHER_PRODUCT, |v| {
            let mut other = product(9);
            other.product = "other".into();
            let files = vec![file("compose.yaml", b"services: {}\n")];
            v.bundle_with(assemble(&other, files, vec![]).expect("a layout"), |_| {}).bytes()
        }),
        case("27", "another stream in this deployment's place", codes::STREAM, |v| {
            release(v, |release| release.stream = "edge".into())
        }),
        case("28", "one JSON key twice in the payload", codes::DOCUMENT, |v| {
            payload(v, |text| text.insert_str(1, "\"seq\":9,"))
        }),
        case("28", "one JSON key twice, spelt differently", codes::DOCUMENT, |v| {
            payload(v, |text| text.insert_str(1, "\"\\u0073eq\":9,"))
        }),
        case("28", "one JSON key twice in the envelope", codes::DOCUMENT, |v| {
            let text = String::from_utf8(good(v).envelope).expect("text");
            document(v, text.replacen('{', "{\"payload\":\"e30=\",", 1).as_bytes())
        }),
        case("29", "number at the end of 64 bits", codes::DOCUMENT, |v| {
            release(v, |release| release.seq = u64::MAX)
        }),
        case("29", "number beyond what every JSON reader keeps", codes::DOCUMENT, |v| {
            release(v, |release| release.seq = MAX_NUMBER + 1)
        }),
        case("29", "floor at the end of 64 bits", codes::DOCUMENT, |v| {
            release(v, |release| release.min_seq = u64::MAX)
        }),
        case("30", "oversized document", codes::ARCHIVE, |v| document(v, &vec![b' '; MAX_SIZE + 1])),
        case("30", "deeply nested document", codes::DOCUMENT, |v| {
            payload(v, |text| text.insert_str(1, &format!("\"x\":{}{},", "[".repeat(1000), "]".repeat(1000))))
        }),
        case("30", "deeply nested envelope", codes::DOCUMENT, |v| {
            document(v, "[".repeat(1 << 20).as_bytes())
        }),
    ]
}

fn next(vendor: &Vendor) -> Root {
    let mut root = vendor.roots.last().expect("a root").clone();
    root.version += 1;
    root
}

fn listed(keys: &[ed25519_dalek::SigningKey]) -> Vec<PublicKey> {
    keys.iter().map(|key| PublicKey::new(&key.verifying_key(), None)).collect()
}

fn stranger(vendor: &Vendor) -> Vendor {
    Vendor::at("a stranger", vendor.now)
}

fn first_root(vendor: &Vendor, change: impl FnOnce(&mut Envelope)) -> Vec<u8> {
    let mut vendor = vendor.clone();
    let mut envelope = Envelope::parse(&vendor.envelopes[0]).expect("an envelope");
    change(&mut envelope);
    vendor.envelopes[0] = envelope.encode();
    good(&vendor).bytes()
}

/// A release that two keys must sign and one has signed twice.
fn two_of_two(vendor: &Vendor, renamed: bool) -> Vec<u8> {
    let mut vendor = vendor.clone();
    let second = PublicKey::new(&key("second", 1).verifying_key(), None);
    let id = second.id();
    vendor.rotate(&[], |root| {
        root.roles.release.keys.push(second);
        root.roles.release.threshold = 2;
    });
    envelope(&vendor, |envelope| {
        let mut again = envelope.signatures[0].clone();
        if renamed {
            again.keyid = id;
        }
        envelope.signatures.push(again);
    })
}

/// A good root of version 2 that travels with a release that nobody signed.
fn cached_root(vendor: &Vendor, name: &str) -> Vec<u8> {
    let mut vendor = vendor.clone();
    vendor.rotate(&[], |root| root.vendor = name.into());
    envelope(&vendor, |envelope| envelope.signatures.clear())
}

fn licence(vendor: &Vendor) -> Vec<u8> {
    let text = serde_json::to_vec(&good(vendor).release).expect("JSON");
    let signers = [&vendor.licence_key as &dyn Signer, &vendor.release_key];
    document(vendor, &sign::envelope(Role::Licence, text, &signers).expect("signed").encode())
}

/// Offset of the header of the last blob.
fn last_blob(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let next = span(bytes, at).end;
        if bytes[next..next + 512].iter().all(|byte| *byte == 0) {
            return at;
        }
        at = next;
    }
}
