//! The whole way round: what comes into custody is credited, traded, and paid out again; what is in custody is what the application owes, at every moment.
//! The bridge lets nothing out before a checkpoint there has counted what the application knew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use synddb_sqlite::rusqlite::{Connection, params};

use super::application::{credits, make, run};
use super::chain::{State, until};
use super::foundry::Foundry;
use super::world::{CUSTODY, Size, World};

/// Who trades. The first has what came; all are paid out.
const TRADERS: [&str; 3] = [
    "0x00000000000000000000000000000000000a11ce",
    "0x0000000000000000000000000000000000000b0b",
    "0x00000000000000000000000000000000000ca201",
];

/// Rounds of deposit, trades and withdrawals.
const ROUNDS: u64 = 3;

#[test]
fn what_comes_in_is_credited_traded_and_paid_out_and_custody_is_what_is_owed() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::prepare(folder.path(), foundry, Size { validators: 2, threshold: 2 });
    let ws = world.chain.ws.clone();
    // Nobody looks again by himself in the time that this takes: a node tells of blocks.
    world.name_its_node(&[("NODES__POLL_MS", "3600000"), ("NODES__WS", &ws)]);
    make(&world.database());
    world.chain.ask_for_checkpoints(folder.path());
    world.start();
    // It brings no checkpoints yet.
    world.start_relayer();
    let stop = Arc::new(AtomicBool::new(false));
    let application = {
        let (stop, database, url) = (Arc::clone(&stop), world.app.clone(), world.sequencer.url());
        std::thread::spawn(move || run(&database, &url, &stop))
    };
    let (mut sent, mut moved) = (vec![CUSTODY], 0);
    let mut paid = 0;
    for round in 1..=ROUNDS {
        let wei = 10_000 * u128::from(round);
        world.chain.fund(wei);
        sent.push(wei);
        until("what came is credited", || {
            let credited = credits(&world.database()).len();
            if credited == sent.len() { Ok(()) } else { Err(format!("{credited}")) }
        });
        conserved(&world, &sent, paid);
        moved = deal(&world.database(), moved);
        conserved(&world, &sent, paid);
        for (number, trader) in TRADERS.into_iter().enumerate() {
            let wei = 100 * u128::from(round) + number as u128;
            let nonce = withdraw(&world.database(), trader, wei);
            if nonce == 1 {
                until("it waits for a checkpoint", || {
                    let found = world.chain.state(1);
                    if found == State::PreExecution { Ok(()) } else { Err(format!("{found:?}")) }
                });
                world.chain.mine(20);
                assert_eq!(world.chain.state(1), State::PreExecution);
                world.relayer.kill();
                world.checkpoints = true;
                world.start_relayer();
            }
            world.chain.until(nonce, State::Completed);
            paid += wei;
            conserved(&world, &sent, paid);
        }
    }
    stop.store(true, Ordering::Relaxed);
    application.join().unwrap();
    let all: u128 = TRADERS.iter().map(|trader| world.chain.balance(trader)).sum();
    assert_eq!(all, paid, "everybody was paid what was asked for, once");
    for validator in 0..2 {
        world.assert_replica_equals(validator);
    }
    println!("{ROUNDS} rounds: {} wei came, {paid} were paid out, {} stayed", sent.iter().sum::<u128>(), {
        world.chain.custody(&world.chain.wrapped())
    });
}

/// What came belongs to the first of them, until it is dealt among all. Gives how many credits were dealt.
fn deal(database: &Connection, dealt: usize) -> usize {
    let came = credits(database);
    for (_, wei) in &came[dealt..] {
        let share = i64::try_from(wei / 3).unwrap();
        let first = i64::try_from(*wei).unwrap() - 2 * share;
        for (trader, wei) in TRADERS.into_iter().zip([first, share, share]) {
            let account = "INSERT INTO account VALUES(?1, ?2) ON CONFLICT DO UPDATE SET wei = wei + ?2";
            database.execute(account, params![trader, wei]).unwrap();
        }
        database
            .execute("UPDATE credit SET sender = 'dealt' WHERE wei = ?1", [i64::try_from(*wei).unwrap()])
            .unwrap();
    }
    came.len()
}

/// Somebody is paid out, in the transaction that takes it from the account; the row's id.
fn withdraw(database: &Connection, trader: &str, wei: u128) -> u64 {
    let transaction = database.unchecked_transaction().unwrap();
    let less = "UPDATE account SET wei = wei - ?2 WHERE name = ?1 AND wei >= ?2";
    assert_eq!(transaction.execute(less, params![trader, i64::try_from(wei).unwrap()]).unwrap(), 1);
    let message = "INSERT INTO outbound_messages(target, value) VALUES(?1, ?2)";
    transaction.execute(message, params![trader, wei.to_string()]).unwrap();
    let id = transaction.last_insert_rowid();
    transaction.commit().unwrap();
    id.try_into().unwrap()
}

/// What is in custody is what accounts hold and what was not dealt yet; nothing is on its way.
fn conserved(world: &World, sent: &[u128], paid: u128) {
    let number = |sql| world.database().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let accounts = number("SELECT coalesce(sum(wei), 0) FROM account");
    let undealt = number("SELECT coalesce(sum(wei), 0) FROM credit WHERE sender <> 'dealt'");
    let owed = u128::try_from(accounts + undealt).unwrap();
    assert_eq!(owed, sent.iter().sum::<u128>() - paid, "the application owes what came and was not paid out");
    assert_eq!(world.chain.custody(&world.chain.wrapped()), owed, "and it is in custody");
}
