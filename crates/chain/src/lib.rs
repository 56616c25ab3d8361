#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | module | holds |
//! |---|---|
//! | `bindings` | the contracts' interfaces, from the files that their build wrote |
//! | `deployment` | [`Deployment`]: where the contracts of a stream are |
//! | `endpoint` | [`Endpoint`]: one node of the chain |
//! | `finality` | [`Finality`]: when a block is believed to stay |
//! | `account` | [`Account`]: who pays for transactions |
//! | `contracts` | what is asked of the contracts, and what they tell |
//! | `submit` | has transactions mined, each once |
//! | `follow` | gives what the bridge tells the application, each message once |

mod account;
mod bindings;
mod contracts;
mod deployment;
mod endpoint;
mod finality;
pub mod follow;
pub mod submit;
mod words;

pub use account::{Account, Fees, NoAccount, SignedTransaction, Unsigned};
pub use contracts::{Authorized, BroughtTo, Contracts, MessageState, Reverted, Role, calls, outcome_of};
pub use deployment::{Deployment, DeploymentError, Image};
pub use endpoint::{Block, BlockTag, Endpoint, EndpointError, Log, LoggedEvent, Receipt};
pub use finality::Finality;
