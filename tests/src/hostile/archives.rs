//! Tricks of tar.

use kedge_bundle::codes;
use kedge_bundle::tar::{self, BLOCK};

use super::Brought::File;
use super::Case;
use super::tamper::{altered, entry, forged, good, inserted, span};

/// Cases 31 to 47.
pub(super) fn cases() -> Vec<Case> {
    let case = |number, name, code, make| Case { number, name, wanted: Some(code), brought: File(make) };
    let archive = codes::ARCHIVE;
    vec![
        case("31", "name with ..", archive, |v| inserted(v, "index.json", &tar::header("../index.json", 0))),
        case("31", "absolute name", archive, |v| inserted(v, "index.json", &tar::header("/etc/cron.d/x", 0))),
        case("31", "name with a backslash", archive, |v| inserted(v, "index.json", &tar::header("a\\b", 0))),
        case("31", "name with NUL", archive, |v| inserted(v, "index.json", &tar::header("index.json\0x", 0))),
        case("32", "symbolic link, then a file through it", archive, |v| {
            let link = link(b'2', "blobs", "/tmp");
            inserted(v, "index.json", &[link, tar::header("blobs/x", 0).to_vec()].concat())
        }),
        case("33", "hard link out", archive, |v| inserted(v, "index.json", &link(b'1', "x", "/etc/passwd"))),
        case("34", "symbolic link, then a folder of that name", archive, |v| {
            let folder = forged("blobs", 0, |block| block[156] = b'5');
            inserted(v, "index.json", &[link(b'2', "blobs", "/tmp"), folder].concat())
        }),
        case("34", "folder", archive, |v| {
            inserted(v, "index.json", &forged("blobs", 0, |block| block[156] = b'5'))
        }),
        case("35", "character device", archive, |v| inserted(v, "index.json", &link(b'3', "x", ""))),
        case("35", "block device", archive, |v| inserted(v, "index.json", &link(b'4', "x", ""))),
        case("35", "FIFO", archive, |v| inserted(v, "index.json", &link(b'6', "x", ""))),
        case("36", "set-user-ID", archive, |v| {
            altered(v, |bytes| {
                let at = entry(bytes, "index.json");
                let size = span(bytes, at).len() as u64;
                let mode = forged("index.json", size, |block| block[100..108].copy_from_slice(b"0004755\0"));
                bytes.splice(at..at + BLOCK, mode);
            })
        }),
        case("37", "GNU sparse file", archive, |v| inserted(v, "index.json", &link(b'S', "x", ""))),
        case("38", "PAX size that differs from the header's", archive, |v| {
            inserted(v, "index.json", &pax(b'x', b"13 size=9999\n"))
        }),
        case("39", "PAX header before a GNU long name", archive, |v| {
            let long = with_body(forged("././@LongLink", 4, |block| block[156] = b'L'), b"abc\0");
            inserted(v, "index.json", &[pax(b'x', b"9 path=a\n"), long].concat())
        }),
        case("39", "GNU long name", archive, |v| {
            let long = with_body(forged("././@LongLink", 4, |block| block[156] = b'L'), b"abc\0");
            inserted(v, "index.json", &long)
        }),
        case("40", "global PAX header", archive, |v| inserted(v, "oci-layout", &pax(b'g', b"9 path=a\n"))),
        case("41", "document twice", archive, |v| {
            altered(v, |bytes| {
                let first = span(bytes, entry(bytes, "index.json"));
                let copy = bytes[first.clone()].to_vec();
                bytes.splice(first.end..first.end, copy);
            })
        }),
        case("41", "blob twice, the second shorter", archive, |v| {
            altered(v, |bytes| {
                let blob = first_blob(bytes);
                let block: &[u8; BLOCK] = bytes[blob.start..blob.start + BLOCK].try_into().expect("a block");
                let name = tar::parse(block).expect("a header").expect("an entry").name;
                let end = bytes.len() - 2 * BLOCK;
                bytes.splice(end..end, tar::header(&name, 0));
            })
        }),
        case("42", "name that differs in case only", archive, |v| renamed(v, "index.json", "INDEX.JSON")),
        case("42", "name that differs in Unicode form only", archive, |v| {
            inserted(v, "index.json", &tar::header("cafe\u{301}", 0))
        }),
        case("43", "cut off in a header", codes::TRUNCATED, |v| {
            altered(v, |bytes| bytes.truncate(entry(bytes, "index.json") + 100))
        }),
        case("43", "cut off in a body", codes::TRUNCATED, |v| {
            altered(v, |bytes| bytes.truncate(bytes.len() - 2000))
        }),
        case("43", "no end", codes::TRUNCATED, |v| {
            altered(v, |bytes| bytes.truncate(bytes.len() - 2 * BLOCK))
        }),
        case("43", "half an end", codes::TRUNCATED, |v| {
            altered(v, |bytes| bytes.truncate(bytes.len() - BLOCK))
        }),
        case("44", "a byte after the end", codes::TRAILING, |v| altered(v, |bytes| bytes.push(0))),
        case("44", "a block after the end", codes::TRAILING, |v| {
            altered(v, |bytes| bytes.resize(bytes.len() + BLOCK, 0))
        }),
        case("45", "two archives, one behind the other", codes::TRAILING, |v| {
            altered(v, |bytes| bytes.extend_from_within(..))
        }),
        case("46", "negative size", archive, |v| sized(v, |block| block[124..136].fill(0xff))),
        case("46", "size that overflows", archive, |v| {
            sized(v, |block| {
                block[124..136]
                    .copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
            })
        }),
        case("46", "size of 64 bits and more", archive, |v| {
            sized(v, |block| block[124..136].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]))
        }),
        case("46", "bad checksum", archive, |v| altered(v, |bytes| bytes[148] ^= 1)),
        case("46", "document of a terabyte", archive, |v| {
            altered(v, |bytes| {
                let at = entry(bytes, "index.json");
                bytes.splice(at..at + BLOCK, tar::header("index.json", 1 << 40));
            })
        }),
        case("47", "a hundred thousand empty entries", archive, |v| {
            // The first is refused: their number costs nothing.
            inserted(v, "index.json", &tar::header("x", 0).repeat(100_000))
        }),
        case("47", "six hundred root documents", archive, |v| {
            let root = &v.envelopes[0];
            let mut many = Vec::new();
            for number in 2..=600 {
                super::tamper::put(&mut many, &format!("kedge/root/{number}.json"), root);
            }
            inserted(v, "kedge/release.json", &many)
        }),
    ]
}

fn link(kind: u8, name: &str, target: &str) -> Vec<u8> {
    forged(name, 0, |block| {
        block[156] = kind;
        block[157..157 + target.len()].copy_from_slice(target.as_bytes());
    })
}

fn pax(kind: u8, records: &[u8]) -> Vec<u8> {
    with_body(forged("PaxHeaders/x", records.len() as u64, |block| block[156] = kind), records)
}

fn with_body(mut header: Vec<u8>, body: &[u8]) -> Vec<u8> {
    header.extend_from_slice(body);
    header.resize(header.len() + tar::padding(body.len() as u64), 0);
    header
}

fn renamed(vendor: &kedge_bundle::testing::Vendor, from: &str, to: &str) -> Vec<u8> {
    altered(vendor, |bytes| {
        let at = entry(bytes, from);
        let block: &[u8; BLOCK] = bytes[at..at + BLOCK].try_into().expect("a block");
        let size = tar::parse(block).expect("a header").expect("an entry").size;
        bytes.splice(at..at + BLOCK, tar::header(to, size));
    })
}

fn sized(vendor: &kedge_bundle::testing::Vendor, change: impl FnOnce(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut bytes = good(vendor).bytes();
    let at = entry(&bytes, "index.json");
    bytes.splice(at..at + BLOCK, forged("index.json", 0, change));
    bytes
}

fn first_blob(bytes: &[u8]) -> std::ops::Range<usize> {
    span(bytes, span(bytes, entry(bytes, "release.json")).end)
}
