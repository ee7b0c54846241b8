//! Whose a stored answer is: found by any of its names, decided by the event alone, and forgotten with it.

use super::*;
use aex_core::event::ResponseStored;
use rusqlite::Connection;

fn stored(agent: AccountId, provider: &str, response: &str, items: &[&str]) -> ResponseStored {
    ResponseStored {
        account: agent,
        items: items.iter().map(|item| (*item).to_owned()).collect(),
        model: "m".to_owned(),
        provider: provider.to_owned(),
        request: RequestId::new(1, 1),
        response: response.to_owned(),
    }
}

async fn owner(house: &House, name: &str, agent: AccountId, provider: Option<&str>) -> Option<String> {
    let (name, provider) = (name.to_owned(), provider.map(str::to_owned));
    let found = house.ledger.read(move |reader| reader.stored(&name, agent, provider.as_deref())).await.unwrap();
    found.map(|stored| format!("{} {}", stored.provider, stored.response))
}

#[tokio::test]
async fn a_name_is_its_agents_at_its_provider_until_its_event_is_sealed() {
    let house = House::new().await;
    let one = house.account(1, AccountKind::Agent, "one", &[]).await;
    let two = house.account(1, AccountKind::Agent, "two", &[]).await;
    for event in
        [stored(one, "p", "resp_1", &["msg_1", "msg_1", "rs_1"]), stored(two, "q", "resp_1", &[]), stored(one, "q", "resp_2", &["resp_2"])]
    {
        house.ledger.record(event.into(), [None, None]).unwrap();
    }
    house.ledger.settled().await.unwrap();
    // The table can be edited; the event cannot.
    let conn = Connection::open(house.home.path().join("ledger.db")).unwrap();
    conn.execute("INSERT INTO stored SELECT 'resp_3', max(seq) FROM events", []).unwrap();
    let row = |name: &'static str, agent, provider: Option<&'static str>, expected: Option<&'static str>| {
        let house = &house;
        async move { assert_eq!(owner(house, name, agent, provider).await.as_deref(), expected, "{name} {agent} {provider:?}") }
    };
    row("resp_1", one, None, Some("p resp_1")).await;
    row("msg_1", one, Some("p"), Some("p resp_1")).await;
    row("resp_1", two, None, Some("q resp_1")).await;
    row("resp_1", one, Some("q"), None).await;
    row("msg_1", two, None, None).await;
    row("resp_2", one, Some("q"), Some("q resp_2")).await;
    row("resp_3", one, None, None).await;
    row("resp_9", one, None, None).await;
    assert_eq!(house.broken().await, Vec::<String>::new());
    let count = || conn.query_row("SELECT count(*) FROM stored", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 3 + 1 + 1 + 1);
    sealing::seal(&house, sealing::write(&house, now()).await.unwrap()).await;
    while sealing::forget(&house, 2).await {}
    row("resp_1", one, None, None).await;
    assert_eq!((count(), house.broken().await), (0, Vec::new()));
    house.ledger.close();
}
