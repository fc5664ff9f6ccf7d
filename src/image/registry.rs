//! A registry's language, without a network: where an image is asked for, who asks, what the answers say.
//!
//! Source: OCI distribution specification v1.1; the token protocol of the distribution project (docs/spec/auth).

mod base64;
/// WWW-Authenticate.
pub mod challenge;
/// Docker's config.json and the like.
pub mod credentials;
/// Hosts and paths.
pub mod endpoint;
/// Manifests and indices.
pub mod manifest;
mod pattern;
