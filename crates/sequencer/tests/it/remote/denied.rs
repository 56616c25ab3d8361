//! A store that refuses in the middle what no retry cures: the credentials are revoked, or the bucket is gone. What was accepted waits, what is wrong is said,
//! and publishing goes on by itself when the permission or the bucket is back.

use synddb_servers::{Fault, Platform};

use super::{Place, Sender, Sent, Settings, says};
use crate::takeover::PATIENCE;

/// Rows of one commit, in bytes.
const ROWS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_denied_in_the_middle_waits_until_it_is_permitted() {
    for platform in Platform::ALL {
        let Some(place) = Place::start(platform, 1) else { continue };
        let mut sequencer = place.sequencer(&Settings::default());
        let mut sender = Sender::new(1, &sequencer.base);
        sender.begin().await;
        let faults = [
            (Fault::Denied, "the store denies access", "grant it"),
            (Fault::Gone, "the store cannot do what a store must", "the bucket does not exist"),
        ];
        for (fault, brief, advice) in faults {
            sender.send_until_taken(ROWS).await;
            sender.stored(PATIENCE).await;
            place.proxy.strike(fault, 1000);
            for _ in 0..10 {
                assert_eq!(sender.send(ROWS).await, Sent::Taken, "{platform:?} {fault:?}");
            }
            says(&sequencer.base, Some(brief)).await;
            assert_eq!(sender.send(ROWS).await, Sent::Taken);
            let said = place.said();
            assert!(said.iter().any(|line| line.contains(brief) && line.contains(advice)), "{said:#?}");
            assert!(sequencer.is_alive());
            place.proxy.clear();
            // Nobody asks for it.
            sender.stored(PATIENCE).await;
            says(&sequencer.base, None).await;
        }
        sender.assert_held_by(&place.read(sender.stream()).await);
        sequencer.kill();
    }
}
