//! The agent: one daemon that brings a customer's host to what the vendor has signed, and the command line that
//! asks it. This page is the map: every task, what it receives and what it sends.
//!
//! ```text
//!              unix socket                                        one TCP connection, outwards
//!   kedge ───▶ local ───────────┐                        ┌─────── tether ◀──▶ hub
//!                               ▼                        ▼
//!                             host: everything that can be asked of this host
//!                               │ Command                          ▲ offers, courier
//!                 ┌─────────────┼──────────────┐                   │
//!                 ▼             ▼              ▼                   │ outbox
//!             deploy::task  deploy::task   …(one per deployment)   │
//!               │    │ Target                                      │
//!               │    ▼                                             │
//!               │  supervisor ──▶ health::Board ──▶ health::reporter
//!               ▼    ▼
//!         images   plan (pure) ─▶ apply ─▶ engine ─▶ Docker
//! ```
//!
//! | task | receives | sends |
//! |---|---|---|
//! | [`daemon`] | configuration, the signal to end | starts and drains all others |
//! | [`local`] | calls on the unix socket, peer credentials checked | calls [`host::Host`] |
//! | [`tether`] | frames from the hub, the outbox | offers and a courier to [`host::Host`], reports to the hub |
//! | [`deploy`]: a task per deployment | requests | phases to the [`store`] before their effects, a target to its supervisor |
//! | supervisor, one per deployment | events of the [`engine`], targets | what its services do to the [`health::Board`]; puts drift right and tells who is to blame |
//! | [`engine::EventHub`] | the engine's event stream | signals to everyone who waits for something |
//! | [`health::reporter`] | changes of the board, events | numbered reports to the outbox |
//! | [`service_manager`] | the [`watchdog`]'s judgement, changes of the board | what systemd is told |
//!
//! Pure, without clock, network or file system: [`plan`], [`guard`], [`redact`], [`support::core`], `deploy::machine`, `health::{diff, services}`. Everything with an
//! effect is given what it works on ([`world::World`]), so that time, crashes and failing engines can be tested.
//!
//! Nothing in here signs a release, and nothing listens on TCP.

pub mod apply;
pub mod audit;
pub mod channel;
pub mod cli;
pub mod clock;
pub mod codes;
pub mod config;
pub mod daemon;
pub mod deploy;
pub mod doctor;
pub mod engine;
pub mod guard;
pub mod health;
pub mod host;
pub mod identity;
pub mod images;
pub mod licence;
pub mod local;
pub mod logging;
pub mod plan;
pub mod problem;
pub mod redact;
pub mod service_manager;
pub mod store;
pub mod support;
pub mod tether;
pub mod timekeeper;
pub mod watchdog;
pub mod world;
