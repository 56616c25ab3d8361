//! Going on where the last process left off.

use synddb_client::How;

use super::{Opened, Place, nowhere};

#[test]
fn a_database_that_nobody_wrote_goes_on_exactly() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a)");
    opened.close();
    for round in 0..3 {
        let mut opened = place.open();
        assert_eq!(opened.how(), How::Resumed);
        opened.write(&format!("INSERT INTO t VALUES({round})"));
        opened.close();
    }
    assert_eq!((place.sequencer.snapshots().len(), place.sequencer.commits()), (1, 4));
    place.sequencer.assert_replica_equals(&place.path());
}

#[test]
fn what_could_not_be_sent_is_sent_by_the_next_process() {
    let place = Place::new();
    let mut opened = Opened::open(&place.location(), &nowhere(place.options())).unwrap();
    opened.schema("CREATE TABLE t(a)");
    opened.write("INSERT INTO t VALUES(1)");
    assert!(!opened.database.close().unwrap().complete);
    assert_eq!(place.sequencer.snapshots().len(), 0);
    let opened = place.open();
    assert_eq!(opened.how(), How::Resumed);
    opened.push();
    assert_eq!((place.sequencer.snapshots().len(), place.sequencer.commits()), (1, 2));
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}
