//! Mounts in short form: `[SOURCE:]TARGET[:OPTIONS]`.
//!
//! A source that starts with `.`, `/`, `~` or a drive letter is a path of the host; any other is a named volume.
//! Options that are not known are ignored, as they always were.

/// Bytes of a short form: two paths of the most that Linux takes, and options.
const MAX_LENGTH: usize = 3 * 4096;

/// A short form, written out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) bind: bool,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    pub(crate) nocopy: bool,
    pub(crate) propagation: Option<String>,
    pub(crate) selinux: Option<String>,
}

/// Reads a short form.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub(crate) fn parse(text: &str) -> Result<Parsed, &'static str> {
    let mut mount = Parsed::default();
    if text.is_empty() {
        return Err("the mount is empty");
    }
    if text.len() > MAX_LENGTH {
        return Err("it is longer than any two paths");
    }
    if text.len() <= 2 {
        text.clone_into(&mut mount.target);
        return Ok(mount);
    }
    let parts = split(text);
    if parts.iter().any(String::is_empty) {
        return Err("a part between colons is empty");
    }
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(target), None, ..) => mount.target = target,
        (Some(source), Some(target), options, None) => {
            mount.bind = is_path(&source);
            mount.source = source;
            mount.target = target;
            for option in options.iter().flat_map(|options| options.split(',')) {
                match option {
                    "ro" => mount.read_only = true,
                    "rw" => mount.read_only = false,
                    "nocopy" => mount.nocopy = true,
                    "z" | "Z" => mount.selinux = Some(option.to_owned()),
                    "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
                        mount.propagation = Some(option.to_owned());
                    }
                    _ => {}
                }
            }
        }
        _ => return Err("there are too many colons"),
    }
    Ok(mount)
}

/// Splits at colons, not at the one of a drive letter.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in text.chars() {
        let Some(part) = parts.last_mut() else { continue };
        let mut letters = part.chars();
        let drive = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
        if c == ':' && !drive { parts.push(String::new()) } else { part.push(c) }
    }
    parts
}

/// Whether a source is a path of the host.
pub(crate) fn is_path(source: &str) -> bool {
    let mut chars = source.chars();
    match (chars.next(), chars.next()) {
        (Some('.' | '/' | '~'), _) | (Some('\\'), Some('\\')) => true,
        (Some(drive), Some(':')) => drive.is_alphabetic(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_form_is_read() {
        let mount = |bind, source: &str, target: &str| Parsed {
            bind,
            source: source.into(),
            target: target.into(),
            ..Parsed::default()
        };
        for (text, expected) in [
            ("/x", mount(false, "", "/x")),
            ("/anon", mount(false, "", "/anon")),
            ("data:/x", mount(false, "data", "/x")),
            ("./a:/x", mount(true, "./a", "/x")),
            ("~/a:/x", mount(true, "~/a", "/x")),
            ("C:\\a:/x", mount(true, "C:\\a", "/x")),
            ("data:/x:ro", Parsed { read_only: true, ..mount(false, "data", "/x") }),
            ("data:/x:ro,nocopy", Parsed { read_only: true, nocopy: true, ..mount(false, "data", "/x") }),
            (
                "./a:/x:z,rslave",
                Parsed {
                    selinux: Some("z".into()),
                    propagation: Some("rslave".into()),
                    ..mount(true, "./a", "/x")
                },
            ),
            ("data:/x:whatever", mount(false, "data", "/x")),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", ":/x", "data:", "aa:/b:ro:z", "aa::b", "::::"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
