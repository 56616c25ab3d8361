//! A difference in words that no terminal obeys: names, values and SQL are whatever somebody wrote into a database.

use synddb_sqlite::compare::{Difference, RowIdentity};

use crate::output::printable;

/// The words, on lines of ours.
pub(super) fn in_words(difference: Difference) -> String {
    // Values are shown by the comparison, which escapes line ends; what else is hidden in them is not to be seen here either.
    on_our_lines(difference).to_string().lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// The same with every name on one line.
fn on_our_lines(difference: Difference) -> Difference {
    use Difference as Found;
    match difference {
        Found::Object { kind, name, only_in } => Found::Object { kind, name: printable(&name), only_in },
        Found::ObjectTable { kind, name, first, second } => {
            let (first, second) = (printable(&first), printable(&second));
            Found::ObjectTable { kind, name: printable(&name), first, second }
        }
        // Of SQL the comparison shows a part, on one line.
        Found::Sql { kind, name, first, second } => {
            Found::Sql { kind, name: printable(&name), first, second }
        }
        Found::Row { table, identity, only_in } => {
            Found::Row { table: printable(&table), identity: of_row(identity), only_in }
        }
        Found::Value { table, identity, column, first, second } => {
            let (table, column) = (printable(&table), printable(&column));
            Found::Value { table, identity: of_row(identity), column, first, second }
        }
        Found::Place { first, second } => {
            Found::Place { first: printable(&first), second: printable(&second) }
        }
        Found::Encoding { .. } | Found::UserVersion { .. } | Found::ApplicationId { .. } => difference,
    }
}

fn of_row(identity: RowIdentity) -> RowIdentity {
    let columns = identity.columns.into_iter().map(|(name, value)| (printable(&name), value)).collect();
    RowIdentity { columns, ..identity }
}
