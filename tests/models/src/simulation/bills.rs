//! The end of a history: each bill of a provider against what the ledger charged for it.

use super::call::Call;
use super::house::{House, Row};
use aex_core::hold::Durability;
use aex_core::price::Charge;
use aex_core::usage::Usage;

/// Compares each call's bill with its terminal row. All calls are over by now.
pub(super) fn compare(house: &mut House) -> Result<(), String> {
    for call in house.calls.clone() {
        let price = house.price(call.model);
        let bill = if call.bill == Usage::default() { 0 } else { Charge::of(&call.bill, &price).unwrap().total.get() };
        house.report.billed += u64::from(bill > 0);
        house.report.overbilled += u64::from(bill > call.bound.amount.get());
        let rows: Vec<&Row> = house.wal.now().ended.iter().filter(|row| row.number == call.number).collect();
        match rows.as_slice() {
            [] if bill == 0 => {}
            [] => lost(house, &call)?,
            [row] if row.state == "released" && bill > 0 => lost(house, &call)?,
            [row] => {
                // What was on its way when the client left was seen by nobody.
                let unseen = Charge::of(&Usage::text(0, call.in_flight), &price).unwrap().total.get();
                let enough = match row.state {
                    "exact" => row.charge == bill,
                    "worst_case" => row.charge == call.bound.amount.get(),
                    _ => row.charge + unseen >= bill,
                };
                if !enough {
                    return Err(format!("call {} is billed {bill} and charged {} as {}: {call:?}", call.number, row.charge, row.state));
                }
            }
            _ => return Err(format!("call {} has {} terminal rows", call.number, rows.len())),
        }
    }
    Ok(())
}

/// A power cut may lose a hold, and never one whose answer was shown.
fn lost(house: &mut House, call: &Call) -> Result<(), String> {
    let allowed = match house.durability {
        Durability::Full => false,
        Durability::Overlap => house.was_cut && !call.seen,
        Durability::Normal => house.was_cut,
    };
    if !allowed {
        return Err(format!("call {} was sent and left no charge, with durability {}: {call:?}", call.number, house.durability.name()));
    }
    house.report.lost += 1;
    Ok(())
}
