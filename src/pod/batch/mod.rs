//! Jobs and CronJobs: which pods they want, and when. Pure.
//!
//! The manifests say which there are (`Desired`), facts say how far they have come (`World::batch`), and the plan asks
//! `decide` for the pods that are wanted beside those of the manifests. A Job has run once per content of its document,
//! also over reboots: `Memory`, a small file, says so.

mod cron;
pub mod decide;
pub mod facts;
mod instance;
mod job;
pub mod learn;
pub mod schedule;
pub mod spec;
pub mod status;
pub mod tell;
#[cfg(test)]
mod tests;
