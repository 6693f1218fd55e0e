//! What attackers try beyond the list.

use kedge_bundle::codes;
use kedge_bundle::envelope::Envelope;
use kedge_bundle::layout::limits;
use kedge_bundle::roles::{Audience, Role};
use kedge_bundle::sign;
use kedge_bundle::tar::{self, BLOCK};
use kedge_bundle::testing::{Vendor, key};
use serde_json::json;

use super::Brought::File;
use super::Case;
use super::tamper::{
    altered, document, entry, envelope, forged, good, inserted, layout, payload, release, rooted, rotated,
};

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    let case = |name, code, make| Case { number: "+", name, wanted: Some(code), brought: File(make) };
    let mut cases = tar_tricks();
    cases.extend([
        // Envelopes.
        case("envelope spelt as a list", codes::DOCUMENT, |v| {
            let parsed = Envelope::parse(&good(v).envelope).expect("an envelope");
            let whole: serde_json::Value = serde_json::from_slice(&parsed.encode()).expect("JSON");
            document(
                v,
                json!([whole["payloadType"], whole["payload"], whole["signatures"]]).to_string().as_bytes(),
            )
        }),
        case("bytes after the envelope", codes::DOCUMENT, |v| {
            document(v, &[&good(v).envelope[..], b"{}"].concat())
        }),
        case("byte order mark before the envelope", codes::DOCUMENT, |v| {
            document(v, &[b"\xef\xbb\xbf", &good(v).envelope[..]].concat())
        }),
        case("base64 without its padding", codes::DOCUMENT, |v| {
            document(v, &String::from_utf8(good(v).envelope).expect("text").replace("=\"", "\"").into_bytes())
        }),
        case("base64 of the other alphabet", codes::DOCUMENT, |v| {
            let text = String::from_utf8(good(v).envelope).expect("text");
            let at = text.find("\"sig\":\"").expect("a signature") + 7;
            document(v, format!("{}-_{}", &text[..at], &text[at + 2..]).as_bytes())
        }),
        case("a thousand signatures", codes::DOCUMENT, |v| {
            envelope(v, |envelope| envelope.signatures = vec![envelope.signatures[0].clone(); 1000])
        }),
        case("signature under no key's name", codes::UNSIGNED, |v| {
            envelope(v, |envelope| envelope.signatures[0].keyid = "../../x".into())
        }),
        case("signature of 65 bytes", codes::UNSIGNED, |v| {
            envelope(v, |envelope| envelope.signatures[0].sig.push(0))
        }),
        case("signature whose number is not reduced", codes::UNSIGNED, |v| {
            envelope(v, |envelope| {
                // s + L verifies where a verifier is lenient.
                const L: [u8; 32] = [
                    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
                    0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
                ];
                let mut carry = 0_u16;
                for (byte, add) in envelope.signatures[0].sig[32..].iter_mut().zip(L) {
                    carry += u16::from(*byte) + u16::from(add);
                    *byte = carry.to_le_bytes()[0];
                    carry >>= 8;
                }
            })
        }),
        case("payload type with a space at its end", codes::PAYLOAD_TYPE, |v| {
            envelope(v, |envelope| envelope.payload_type.push(' '))
        }),
        case("payload changed under its signature", codes::UNSIGNED, |v| {
            envelope(v, |envelope| envelope.payload.push(b' '))
        }),
        // A reason that quotes what a stranger wrote must stay short: it is logged, audited and sent.
        case("payload type of a mebibyte", codes::PAYLOAD_TYPE, |v| {
            envelope(v, |envelope| envelope.payload_type = "\u{1b}[2J".repeat(200_000))
        }),
        case("text of three mebibytes where a number must be, in a root", codes::DOCUMENT, |v| {
            let mut other = v.clone();
            let text = format!("{{\"format\":\"{}\"}}", "x".repeat(2 << 20));
            let signers = [&key("nobody", 1) as &dyn sign::Signer];
            other.envelopes[0] =
                sign::envelope(Role::Root, text.into_bytes(), &signers).expect("signed").encode();
            good(&other).bytes()
        }),
        // Numbers and texts.
        case("number with a fraction", codes::DOCUMENT, |v| {
            payload(v, |text| *text = text.replace("\"seq\":8", "\"seq\":8.0"))
        }),
        case("number with an exponent", codes::DOCUMENT, |v| {
            payload(v, |text| *text = text.replace("\"seq\":8", "\"seq\":8e0"))
        }),
        case("negative number", codes::DOCUMENT, |v| {
            payload(v, |text| *text = text.replace("\"seq\":8", "\"seq\":-8"))
        }),
        case("number of a thousand digits", codes::DOCUMENT, |v| {
            payload(v, |text| *text = text.replace("\"seq\":8", &format!("\"seq\":{}", "9".repeat(1000))))
        }),
        case("number as text", codes::DOCUMENT, |v| {
            payload(v, |text| *text = text.replace("\"seq\":8", "\"seq\":\"8\""))
        }),
        case("format of tomorrow", codes::FORMAT, |v| release(v, |release| release.format = 2)),
        case("time in another zone", codes::DOCUMENT, |v| {
            payload(v, |text| *text = text.replace("Z\",\"expires", "+00:00\",\"expires"))
        }),
        case("payload spelt as a list", codes::DOCUMENT, |v| payload(v, |text| *text = "[1]".into())),
        case("control characters in a version", codes::DOCUMENT, |v| {
            release(v, |release| release.version = "1\u{1b}[2J".into())
        }),
        // Audience.
        case("audience with a star", codes::SITE, |v| {
            release(v, |release| release.audience = Audience::Sites(vec!["*".into()]))
        }),
        case("audience in other letters", codes::SITE, |v| {
            release(v, |release| release.audience = Audience::Sites(vec!["HERE".into()]))
        }),
        case("audience with a space", codes::SITE, |v| {
            release(v, |release| release.audience = Audience::Sites(vec!["here ".into()]))
        }),
        case("audience of an unknown kind", codes::DOCUMENT, |v| {
            payload(v, |text| *text = text.replace("\"all\"", "\"everybody\""))
        }),
        // Dates, at their boundary: what expires now has expired.
        case("expires as it is brought", codes::RELEASE_EXPIRED, |v| {
            release(v, |release| release.expires = v.now)
        }),
        case("expires before it was issued", codes::DOCUMENT, |v| {
            release(v, |release| release.expires = release.issued)
        }),
        // Roots.
        case("root version at the end of numbers", codes::DOCUMENT, |v| {
            rotated(v, &[0, 1], &[], |root| root.version = u64::MAX)
        }),
        case("root with a lower epoch", codes::ROOT_CHAIN, |v| {
            rotated(v, &[0, 1], &[], |root| root.epoch = 0)
        }),
        case("root with a key of small order", codes::DOCUMENT, |v| {
            rotated(v, &[0, 1], &[], |root| {
                root.roles.release.keys[0].public = format!("01{}", "00".repeat(31))
            })
        }),
        case("root with a key in capitals", codes::DOCUMENT, |v| {
            rotated(v, &[0, 1], &[], |root| {
                let public = root.roles.root.keys[0].public.to_ascii_uppercase();
                root.roles.root.keys[0].public = public;
            })
        }),
        case("root with a scheme of tomorrow", codes::DOCUMENT, |v| {
            rotated(v, &[0, 1], &[], |root| root.roles.release.keys[0].scheme = "ed448".into())
        }),
        case("root whose threshold is beyond 32 bits", codes::DOCUMENT, |v| {
            let mut root = serde_json::to_value(v.roots.last().expect("a root")).expect("JSON");
            root["version"] = 2.into();
            root["roles"]["root"]["threshold"] = (1_u64 << 32).into();
            rooted(v, root.to_string().as_bytes(), &[0, 1], &[])
        }),
        case("chain longer than the one the release was signed for", codes::ROOT_CHAIN, |v| {
            let mut longer = v.clone();
            longer.rotate(&[], |_| {});
            let mut bundle = good(v);
            bundle.roots = longer.envelopes;
            bundle.bytes()
        }),
        case("another vendor's chain before a good release", codes::UNKNOWN_ROOT, |v| {
            let mut bundle = good(v);
            bundle.roots = Vendor::at("another", v.now).envelopes;
            bundle.bytes()
        }),
    ]);
    cases.extend(images());
    cases
}

fn tar_tricks() -> Vec<Case> {
    let case = |name, code, make| Case { number: "+", name, wanted: Some(code), brought: File(make) };
    let archive = codes::ARCHIVE;
    vec![
        case("checksum of signed bytes", archive, |v| {
            inserted(v, "index.json", &forged("caf\u{e9}", 0, |_| {}))
        }),
        case("checksum spelt with spaces", archive, |v| {
            altered(v, |bytes| {
                let at = entry(bytes, "index.json");
                bytes[at + 154] = b' ';
            })
        }),
        case("size in octal with a space", archive, |v| {
            inserted(v, "index.json", &forged("index.json", 0, |b| b[135] = b' '))
        }),
        case("size in base 256 where octal would do", archive, |v| {
            inserted(
                v,
                "index.json",
                &forged("index.json", 0, |b| {
                    b[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5])
                }),
            )
        }),
        case("name continued in the prefix", archive, |v| {
            inserted(v, "index.json", &forged("index.json", 0, |b| b[345..347].copy_from_slice(b"..")))
        }),
        case("link name on a plain file", archive, |v| {
            inserted(v, "index.json", &forged("index.json", 0, |b| b[157] = b'/'))
        }),
        case("another owner", archive, |v| {
            inserted(v, "index.json", &forged("index.json", 0, |b| b[265..269].copy_from_slice(b"root")))
        }),
        case("old tar format", archive, |v| {
            inserted(v, "index.json", &forged("index.json", 0, |b| b[257..265].fill(0)))
        }),
        case("GNU format", archive, |v| {
            inserted(v, "index.json", &forged("index.json", 0, |b| b[257..265].copy_from_slice(b"ustar  \0")))
        }),
        case("contiguous file", archive, |v| {
            inserted(v, "index.json", &forged("index.json", 0, |b| b[156] = b'7'))
        }),
        case("volume label", archive, |v| inserted(v, "oci-layout", &forged("x", 0, |b| b[156] = b'V'))),
        case("name of nothing", archive, |v| inserted(v, "index.json", &forged("", 0, |_| {}))),
        case("name that ends in a slash", archive, |v| {
            inserted(v, "index.json", &forged("blobs/", 0, |_| {}))
        }),
        case("name of a hundred bytes", archive, |v| {
            inserted(v, "index.json", &forged(&"x".repeat(100), 0, |_| {}))
        }),
        case("name that is not UTF-8", archive, |v| {
            inserted(v, "index.json", &forged("x", 0, |b| b[0] = 0xff))
        }),
        case("padding that says something", archive, |v| {
            altered(v, |bytes| {
                let at = entry(bytes, "oci-layout") + 2 * BLOCK - 1;
                bytes[at] = 1;
            })
        }),
        case("zero block in the middle", codes::BLOBS, |v| inserted(v, "manifest.json", &[0; BLOCK])),
        case("end of the archive, then the rest", codes::BLOBS, |v| {
            inserted(v, "manifest.json", &[0; 2 * BLOCK])
        }),
        case("gzip around the bundle", archive, |v| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut out, &good(v).bytes()).expect("memory is enough");
            out.finish().expect("memory is enough")
        }),
        case("documents in another order", archive, |v| {
            altered(v, |bytes| {
                let first = super::tamper::span(bytes, entry(bytes, "oci-layout"));
                let second = super::tamper::span(bytes, first.end);
                let swapped = [&bytes[second.clone()], &bytes[first.clone()]].concat();
                bytes.splice(first.start..second.end, swapped);
            })
        }),
        case("nothing but an end", codes::BLOBS, |_| vec![0; 2 * BLOCK]),
        case("a header alone", codes::TRUNCATED, |_| tar::header("oci-layout", 30).to_vec()),
    ]
}

fn images() -> Vec<Case> {
    let case = |name, code, make| Case { number: "+", name, wanted: Some(code), brought: File(make) };
    vec![
        case("index that lists another platform than the image is for", codes::LAYOUT, |v| {
            let platform = json!({"architecture": "s390x", "os": "linux"});
            layout(v, |_| {}, |_| {}, |index| index["manifests"][0]["platform"] = platform, vec![])
        }),
        case("index without a product", codes::LAYOUT, |v| {
            layout(
                v,
                |_| {},
                |_| {},
                |index| drop(index["manifests"].as_array_mut().expect("a list").pop()),
                vec![],
            )
        }),
        case("one reference for two images", codes::LAYOUT, |v| {
            layout(
                v,
                |_| {},
                |_| {},
                |index| {
                    let twice = index["manifests"][0].clone();
                    index["manifests"].as_array_mut().expect("a list").insert(0, twice);
                },
                vec![],
            )
        }),
        case("image without a reference", codes::LAYOUT, |v| {
            layout(v, |_| {}, |_| {}, |index| index["manifests"][0]["annotations"] = json!({}), vec![])
        }),
        case("thousands of layers", codes::LAYOUT, |v| {
            layout(
                v,
                |_| {},
                |manifest| {
                    let one = manifest["layers"][0].clone();
                    manifest["layers"] = vec![one; limits::LAYERS + 1].into();
                },
                |_| {},
                vec![],
            )
        }),
        case("layer that is its image's configuration", codes::LAYOUT, |v| {
            layout(
                v,
                |_| {},
                |manifest| {
                    let config = manifest["config"]["digest"].clone();
                    manifest["layers"][0]["digest"] = config;
                },
                |_| {},
                vec![],
            )
        }),
        case("manifest of schema 1", codes::LAYOUT, |v| {
            layout(v, |_| {}, |manifest| manifest["schemaVersion"] = 1.into(), |_| {}, vec![])
        }),
        case("configuration that is no object", codes::LAYOUT, |v| {
            layout(v, |config| *config = json!([1]), |_| {}, |_| {}, vec![])
        }),
        case("layers of no known kind", codes::LAYOUT, |v| {
            layout(v, |config| config["rootfs"]["type"] = "files".into(), |_| {}, |_| {}, vec![])
        }),
        case("manifest.json that tells another story", codes::LAYOUT, |v| {
            let mut bundle = good(v);
            bundle.draft.documents.manifest = b"[]".to_vec();
            let sized =
                kedge_bundle::roles::Sized { digest: kedge_bundle::digest::Digest::of(b"[]"), size: 2 };
            bundle.resigned(Role::Release, &[&v.release_key], |release| release.manifest = sized).bytes()
        }),
        case("blobs that do not add up", codes::LAYOUT, |v| release(v, |release| release.content_bytes += 1)),
        case("product document of another version", codes::PRODUCT_DOCUMENT, |v| {
            release(v, |release| release.version = "9.9.9".into())
        }),
    ]
}
