//! `release`: opens, verifies and publishes what `receive` left in the inbox. It has no network.
//!
//! | file | holds |
//! |---|---|
//! | `daemon`, `host` | the loop; the parts of release, and what needs several of them |
//! | `arrivals`, `inbox` | what `receive` left; containers that release has not done with |
//! | `cables`, `worker` | each container opened, judged and staged, or left waiting; what takes long |
//! | `commit`, `verdicts` | the steps of publishing; what they write into the log and answer |
//! | `requests`, `request`, `acts`, `bundles` | what operators ask, and its effect |
//! | `ledger` | log and register |
//! | `slots` | the keys that open containers |
//! | `link` | the newest beacon, and the gaps that it shows |
//! | `observe`, `shown`, `foreign`, `view` | what is watched, and what persons and monitors see of it |
//! | `startup` | what a killed process left |

mod acts;
mod arrivals;
mod bundles;
mod cables;
mod commit;
mod daemon;
mod error;
mod foreign;
mod host;
mod inbox;
pub mod ledger;
mod link;
mod observe;
pub mod request;
pub mod requests;
mod shown;
mod slots;
mod startup;
mod verdicts;
mod view;
mod worker;

pub use daemon::{Daemon, run};
pub use error::ReleaseError;
pub use host::Release;
pub use view::shortened;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
