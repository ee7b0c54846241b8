//! Refusals of the page of figures: those of a call, and how to get a token that may read it.

use super::{Addressee, Refusal, refusal};
use aex_core::decision::Denial;

/// A denial as `GET /metrics` answers it.
#[must_use]
pub fn metrics(denial: &Denial, to: Addressee) -> Refusal {
    let mut refused = refusal(denial);
    if refused.status == 401 {
        refused.message.push_str(
            " Metrics need a token: `aexctl token create NAME --scope read-only` makes one that shows an agent, \
             `aexctl token create --root --scope read-only` one that shows all accounts.",
        );
    }
    refused.told(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dialect::Shape;
    use aex_core::decision::AuthCause;
    use aex_proto::value::RequestId;

    #[test]
    fn a_missing_token_is_told_with_the_way_to_one_and_nothing_else_is() {
        let to = Addressee::of_page(RequestId::new(1, 2), Shape::OpenAi);
        let refused = metrics(&Denial::Unauthenticated { cause: AuthCause::Missing }, to);
        assert_eq!((refused.status, refused.code), (401, "invalid_api_key"));
        assert!(refused.message.contains("No token was sent") && refused.message.contains("--root --scope read-only"));
        assert!(refused.message.ends_with("(request req_0000010000000002)"));
        let throttled = metrics(&Denial::AuthThrottled { retry_after_ms: 5 }, to);
        assert_eq!((throttled.status, throttled.message.contains("token create")), (429, false));
    }
}
