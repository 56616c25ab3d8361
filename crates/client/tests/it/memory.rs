//! Databases in memory.

use synddb_client::{Because, Error, How, Location};
use synddb_sqlite::rusqlite::backup::Backup;

use super::{Opened, Place};

#[test]
fn a_database_in_memory_arrives_and_begins_anew_with_each_process() {
    let place = Place::new();
    for round in 0..2 {
        let mut opened = Opened::open(&Location::Memory, &place.options()).unwrap();
        let because = if round == 0 { Because::FirstAttach } else { Because::ContentDiffers };
        assert_eq!(opened.how(), How::New { because });
        opened.schema("CREATE TABLE t(a PRIMARY KEY, b); INSERT INTO t VALUES(NULL, 1), (NULL, 2)");
        opened.write(&format!("UPDATE t SET b = b + {round}"));
        opened.push();
        let file = place.folder.path().join(format!("copy{round}.db"));
        opened
            .database
            .read(|sqlite| {
                let mut copy = synddb_client::rusqlite::Connection::open(&file)?;
                Backup::new(sqlite, &mut copy)?.run_to_completion(100, std::time::Duration::ZERO, None)?;
                Ok::<_, Error>(())
            })
            .unwrap();
        place.sequencer.assert_replica_equals(&file);
        opened.close();
    }
}
