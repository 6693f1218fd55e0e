//! The stack that both bring up: services in layers, each waiting for the health of the whole layer before its own.

use std::fmt::Write;

use kedge_tests::rig::images;

/// Layers, each gated by the health of the one before.
pub(crate) const LAYERS: usize = 4;

/// The service that is updated, killed and removed: others wait for it, and it waits for others.
pub(crate) const WATCHED: &str = "layer2-1";

/// A stack by its size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stack {
    /// Services in all; a multiple of [`LAYERS`].
    pub(crate) services: usize,
}

impl Stack {
    /// The compose file. `edition` is in the environment of [`WATCHED`] alone: another edition makes that one
    /// service, and no other, differ.
    pub(crate) fn compose_file(self, edition: u32) -> String {
        let width = self.services / LAYERS;
        let mut text = String::from("services:\n");
        for layer in 1..=LAYERS {
            for number in 1..=width {
                let name = format!("layer{layer}-{number}");
                // SIGKILL, because what is measured is not how fast a shell ends.
                let _ = write!(
                    text,
                    "  {name}:\n    image: {}\n    command: [sh, -c, \"touch /tmp/up; exec sleep 1000000\"]\n    \
                     stop_signal: SIGKILL\n    restart: unless-stopped\n    healthcheck:\n      \
                     test: [CMD, test, -f, /tmp/up]\n      interval: 1s\n      timeout: 5s\n      retries: 10\n",
                    images::BUSYBOX
                );
                if name == WATCHED {
                    let _ = writeln!(text, "    environment: {{EDITION: \"{edition}\"}}");
                }
                if layer > 1 {
                    text.push_str("    depends_on:\n");
                    for before in 1..=width {
                        let _ = writeln!(
                            text,
                            "      layer{}-{before}: {{condition: service_healthy}}",
                            layer - 1
                        );
                    }
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editions_differ_in_one_line() {
        let stack = Stack { services: 20 };
        let (one, two) = (stack.compose_file(1), stack.compose_file(2));
        assert_eq!(one.matches("image:").count(), 20);
        assert_eq!(one.matches("service_healthy").count(), 75);
        assert_eq!(one.lines().zip(two.lines()).filter(|(a, b)| a != b).count(), 1);
    }
}
