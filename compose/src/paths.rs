//! Paths as text: joined, cleaned and compared without asking the file system, with `/` on every platform.

/// Whether a path starts at the root.
#[must_use]
pub fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
}

/// `path` seen from `base`: an absolute path stays, another is appended; then both are cleaned.
#[must_use]
pub fn join(base: &str, path: &str) -> String {
    if is_absolute(path) || base.is_empty() { clean(path) } else { clean(&format!("{base}/{path}")) }
}

/// The shortest path that means the same: no `.`, no doubled slashes, `..` applied by name. Empty becomes `.`.
#[must_use]
pub fn clean(path: &str) -> String {
    let rooted = is_absolute(path);
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            name => parts.push(name),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// The folder that a path is in.
#[must_use]
pub fn parent(path: &str) -> String {
    match path.rfind('/') {
        Some(0) => "/".to_owned(),
        Some(index) => clean(&path[..index]),
        None => ".".to_owned(),
    }
}

/// Last component of a path.
#[must_use]
pub fn file_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

/// `path` relative to `root` when it is inside of it, or is it. Both must be clean.
#[must_use]
pub fn within<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    match root {
        "." | "" => (!is_absolute(path) && path != ".." && !path.starts_with("../")).then_some(path),
        "/" => path.strip_prefix('/'),
        _ => match path.strip_prefix(root)? {
            "" => Some("."),
            rest => rest.strip_prefix('/'),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_applies_dots() {
        for (given, expected) in [
            ("", "."),
            ("a/./b//c", "a/b/c"),
            ("a/../..", ".."),
            ("/../etc", "/etc"),
            ("/a/b/..", "/a"),
            ("./", "."),
            ("/", "/"),
            ("../../x", "../../x"),
        ] {
            assert_eq!(clean(given), expected, "{given}");
        }
    }

    #[test]
    fn within_is_by_component_and_not_by_prefix() {
        assert_eq!(within("/a/b", "/a/b/c"), Some("c"));
        assert_eq!(within("/a/b", "/a/b"), Some("."));
        assert_eq!(within("/a/b", "/a/bc"), None);
        assert_eq!(within(".", "x/y"), Some("x/y"));
        assert_eq!(within(".", "../x"), None);
        assert_eq!(within(".", "/x"), None);
        assert_eq!(within("/", "/x"), Some("x"));
    }

    #[test]
    fn parents_and_names() {
        assert_eq!(parent("/a/b"), "/a");
        assert_eq!(parent("/a"), "/");
        assert_eq!(parent("a"), ".");
        assert_eq!(file_name("/a/b/"), "b");
        assert_eq!(join("/a", "../b"), "/b");
        assert_eq!(join("/a", "/b"), "/b");
    }
}
