//! Retries, fallbacks and breakers in models.yaml.

use super::*;

const ROUTES: &str = "version: 1
providers:
  p:
    type: echo
    retries: {attempts: 2}
    breaker: {failures: 3, pause_ms: 500}
  q:
    type: echo
    breaker: off
default_model: a
models:
  a: {provider: p, provider_model: a, pricing: free, limits: {max_tokens: 5}, capabilities: {}, A}
  b: {provider: p, provider_model: b, pricing: free, limits: {max_tokens: 5}, capabilities: {}, fallbacks: a}
  c: {provider: q, provider_model: c, pricing: free, limits: {max_tokens: 5}, capabilities: {}}
";

fn routes(of_a: &str) -> Home {
    home(&ROUTES.replace("A}", &format!("{of_a}}}")))
}

#[test]
fn a_models_retries_stand_before_its_providers_and_its_fallbacks_are_in_order() {
    let config = warn(&routes("retries: {attempts: 1, max_wait_ms: 60000}, fallbacks: [c, b]"), &[]);
    let route = |name: &str| config.catalog.routes.get(name).unwrap();
    let retries = |attempts, wait| Retries { attempts, max_wait: Duration::from_secs(wait) };
    assert_eq!(*route("a"), Route { retries: retries(1, 60), fallbacks: vec!["c".to_owned(), "b".to_owned()] });
    // Each may be the other's: fallbacks of a fallback are not followed.
    assert_eq!(*route("b"), Route { retries: retries(2, 10), fallbacks: vec!["a".to_owned()] });
    assert_eq!(*route("c"), Route { retries: Retries::NONE, fallbacks: Vec::new() });
    let breaker = |name: &str| config.catalog.providers.get(name).unwrap().breaker;
    assert_eq!(breaker("p"), Some(aex_core::breaker::Settings { failures: 3, window_ms: 60_000, pause_ms: 500 }));
    assert_eq!(breaker("q"), None);
}

#[test]
fn a_route_that_leads_nowhere_or_twice_to_one_model_is_refused_with_its_place() {
    let fallbacks = |list: &str, what: &str| {
        refuse(&routes(&format!("fallbacks: {list}")), &[&format!("models.yaml:12: models.a.fallbacks: expected {what}")]);
    };
    fallbacks("[b, x]", "the name of a model listed below `models`, found x");
    fallbacks("[a]", "another model than itself, found a");
    fallbacks("[b, c, b]", "each model once, found b");
    fallbacks("5", "the name of a model listed below `models`, found 5");
    fallbacks("[[b]]", "text, found a list");
    let retries = |text: &str, what: &str| refuse(&routes(&format!("retries: {text}")), &[&format!("models.yaml:12: models.a.{what}")]);
    retries("3", "retries: expected a mapping, found 3");
    retries("{max_wait_ms: 5}", "retries.attempts: expected a whole number, found nothing");
    retries("{attempts: 11}", "retries.attempts: expected a whole number from 0 to 10, found 11");
    retries("{attempts: 1, max_wait_ms: 60001}", "retries.max_wait_ms: expected a whole number from 0 to 60000, found 60001");
    let breaker = home(&ROUTES.replace("{failures: 3", "{failures: 0").replace(", A}", "}"));
    refuse(&breaker, &["models.yaml:6: providers.p.breaker.failures: expected a whole number ≥ 1, found 0"]);
}
