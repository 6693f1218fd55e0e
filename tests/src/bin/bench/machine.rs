//! What the figures were taken on.

/// A line about processor, memory and kernel.
pub(crate) fn describe() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown processor").to_owned();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory =
        field(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
    let gibibytes = memory.map_or(0.0, |kib: f64| kib / f64::from(1 << 20));
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({model}), {gibibytes:.0} GiB of memory, Linux {}.", kernel.trim())
}

/// The first `name : value` of a file in /proc.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotalX: 1\nMemTotal:       16384 kB\n";
        assert_eq!(field(text, "MemTotal"), Some("16384 kB"));
        assert_eq!(field(text, "MemFree"), None);
    }
}
