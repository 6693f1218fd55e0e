//! A file of a service's container, by the engine: nothing runs in it for that.

use futures_util::StreamExt as _;
use kedge_bundle::support::Target;

use super::super::container;
use super::collectors::Tail;
use crate::codes;
use crate::problem::Problem;
use crate::world::World;

/// Bytes of a tar's block.
const BLOCK: usize = kedge_bundle::tar::BLOCK;

/// The file, or its end where it is longer than `most`.
pub(super) async fn read(world: &World, target: &Target, path: &str, most: usize) -> Result<String, Problem> {
    let running = container::targets(world, target).await?;
    let id = running.first().map(|container| container.id.clone()).unwrap_or_default();
    // What may not be joined may not be read either: its mounts may be the host's.
    container::joinable(world, &id).await?;
    let mut tar = world.engine.get_archive(&id, path).await.map_err(|e| Problem::from_error(e.code(), &e))?;
    let mut content = Content::default();
    let mut tail = Tail { bytes: Vec::new(), most, cut: false };
    while let Some(bytes) = tar.next().await {
        let bytes = bytes.map_err(|e| Problem::from_error(&codes::UNREADABLE, &e).at(path))?;
        let wrong = |why: &str| Problem::new(&codes::UNREADABLE, format!("{path}: {why}"));
        content.take(&bytes, |part| tail.take(part)).map_err(wrong)?;
        if content.done {
            break;
        }
    }
    if !content.done {
        return Err(Problem::new(&codes::UNREADABLE, format!("{path}: the engine gives only part of it")));
    }
    Ok(tail.text())
}

/// The content of the one file in a tar that comes in pieces. What else describes a file (long names, attributes) is
/// passed over; what is no file is refused.
#[derive(Default)]
struct Content {
    header: Vec<u8>,
    /// Bytes of content to come, and those to pass over.
    left: u64,
    over: u64,
    done: bool,
}

impl Content {
    fn take(&mut self, mut bytes: &[u8], mut give: impl FnMut(&[u8])) -> Result<(), &'static str> {
        while !bytes.is_empty() && !self.done {
            let within = |many: u64| usize::try_from(many).unwrap_or(usize::MAX).min(bytes.len());
            if self.over > 0 {
                let many = within(self.over);
                self.over -= many as u64;
                bytes = &bytes[many..];
            } else if self.left > 0 {
                let many = within(self.left);
                give(&bytes[..many]);
                self.left -= many as u64;
                self.done = self.left == 0;
                bytes = &bytes[many..];
            } else {
                let many = (BLOCK - self.header.len()).min(bytes.len());
                self.header.extend_from_slice(&bytes[..many]);
                bytes = &bytes[many..];
                if self.header.len() == BLOCK {
                    self.begin()?;
                    self.header.clear();
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), &'static str> {
        let size = number(&self.header[124..136]).ok_or("the engine gives no tar")?;
        match self.header[156] {
            b'0' | 0 => {
                self.left = size;
                self.done = size == 0;
            }
            // Attributes and long names, before what they belong to.
            b'x' | b'g' | b'L' | b'K' => self.over = size.div_ceil(BLOCK as u64) * BLOCK as u64,
            b'1' | b'2' => return Err("it is a link; name the file that it leads to"),
            b'5' => return Err("it is a folder"),
            _ => return Err("it is no file"),
        }
        Ok(())
    }
}

/// A number of a header: octal digits, or base 256 where they do not suffice.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        return Some(u64::from_be_bytes(field.get(4..12)?.try_into().ok()?));
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

#[cfg(test)]
mod tests {
    use kedge_bundle::tar;

    use super::*;

    fn entry(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut block = tar::header("name", content.len() as u64).to_vec();
        block[156] = kind;
        block.extend_from_slice(content);
        block.resize(block.len() + tar::padding(content.len() as u64), 0);
        block
    }

    fn read(tar: &[u8], pieces: usize) -> Result<(Vec<u8>, bool), &'static str> {
        let (mut content, mut out) = (Content::default(), Vec::new());
        for piece in tar.chunks(pieces) {
            content.take(piece, |part| out.extend_from_slice(part))?;
        }
        Ok((out, content.done))
    }

    #[test]
    fn a_file_is_read_however_its_tar_is_cut_and_nothing_else_is() {
        let text = b"0123456789".repeat(200);
        let tar = [entry(b'x', b"30 mtime=1.5\n"), entry(b'0', &text), vec![0; 1024]].concat();
        for pieces in [1, 7, 511, 512, 513, 5000] {
            assert_eq!(read(&tar, pieces), Ok((text.clone(), true)), "{pieces}");
        }
        assert_eq!(read(&entry(b'0', b""), 100), Ok((Vec::new(), true)));
        assert_eq!(read(&tar[..2000], 100).map(|(_, done)| done), Ok(false));
        assert!(read(&entry(b'2', b""), 100).unwrap_err().contains("link"));
        assert!(read(&entry(b'5', b""), 100).unwrap_err().contains("folder"));
        assert!(read(&[0xff; 512], 100).is_err());
    }
}
