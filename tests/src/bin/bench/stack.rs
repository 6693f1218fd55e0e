//! The stack that both bring up: services in layers, each waiting for the health of those of the layer before.

use std::fmt::Write;

use kedge_tests::rig::images;

/// Layers, each gated by the health of the one before.
pub(crate) const LAYERS: usize = 4;

/// The service that is updated, killed and removed: others wait for it, and it waits for others.
pub(crate) const WATCHED: &str = "layer2-1";

/// Most services of the layer before that one waits for.
const NEEDS: usize = 5;

/// Services whose health one machine can ask for in a second and still do other things.
const CHECKS_A_SECOND: usize = 20;

/// A stack by its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stack {
    services: usize,
}

impl Stack {
    /// A stack of so many services, if that makes [`LAYERS`] layers.
    pub(crate) fn of(services: usize) -> Option<Self> {
        (services >= LAYERS).then_some(Self { services })
    }

    /// Services in all.
    pub(crate) fn services(self) -> usize {
        self.services
    }

    /// Services of a layer, counted from 0; the first ones take what is left over.
    fn width(self, layer: usize) -> usize {
        self.services / LAYERS + usize::from(layer < self.services % LAYERS)
    }

    /// Seconds from one health check of a service to its next: more where there are so many services that the machine would do
    /// nothing else.
    pub(crate) fn interval(self) -> usize {
        self.services.div_ceil(CHECKS_A_SECOND)
    }

    /// The compose file. `edition` is in the environment of [`WATCHED`] alone: another edition makes that one
    /// service, and no other, differ.
    pub(crate) fn compose_file(self, edition: u32) -> String {
        let mut text = String::from("services:\n");
        for layer in 0..LAYERS {
            for number in 0..self.width(layer) {
                let name = format!("layer{}-{}", layer + 1, number + 1);
                // SIGKILL, because what is measured is not how fast a shell ends.
                let _ = write!(
                    text,
                    "  {name}:\n    image: {}\n    command: [sh, -c, \"touch /tmp/up; exec sleep 1000000\"]\n    \
                     stop_signal: SIGKILL\n    restart: unless-stopped\n    healthcheck:\n      \
                     test: [CMD, test, -f, /tmp/up]\n      interval: {}s\n      timeout: 5s\n      retries: 10\n",
                    images::BUSYBOX,
                    self.interval()
                );
                if name == WATCHED {
                    let _ = writeln!(text, "    environment: {{EDITION: \"{edition}\"}}");
                }
                if let Some(before) = layer.checked_sub(1).map(|before| self.width(before)) {
                    text.push_str("    depends_on:\n");
                    for need in 0..before.min(NEEDS) {
                        let need = (number + need) % before + 1;
                        let _ = writeln!(text, "      layer{layer}-{need}: {{condition: service_healthy}}");
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
        let stack = Stack::of(20).unwrap();
        let (one, two) = (stack.compose_file(1), stack.compose_file(2));
        assert_eq!(one.matches("image:").count(), 20);
        assert_eq!(one.matches("service_healthy").count(), 75, "each waits for all five of the layer before");
        assert_eq!(one.lines().zip(two.lines()).filter(|(a, b)| a != b).count(), 1);
    }

    #[test]
    fn a_stack_has_as_many_services_as_it_says() {
        for services in [4, 5, 20, 61, 150] {
            let text = Stack::of(services).unwrap().compose_file(1);
            assert_eq!(text.matches("image:").count(), services);
            assert!(text.contains("  layer4-1:\n") && text.contains("EDITION"), "{services}");
        }
        assert_eq!(Stack::of(3), None);
    }
}
