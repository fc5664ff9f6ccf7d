//! A Deployment as its pods.

use super::instance::{IMAGE, Instance, until};
use super::{FOREVER, status, uid};

/// Nothing rolls, and what does not change runs on.
#[test]
fn a_deployment_is_scaled_edited_and_kept_when_it_turns_bad() {
    let mut here = Instance::new();
    let deployment = |replicas: &str, say: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: {replicas}\n  \
             selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
             spec:\n      containers:\n      - name: c\n        image: {IMAGE}\n        \
             command: [sh, -c, \"echo {say}; {FOREVER}\"]\n"
        )
    };
    here.write("web.yaml", &deployment("2", "old"));
    here.start();
    let (first, second) = (here.running("web-0"), here.running("web-1"));
    assert_ne!(uid(&first), uid(&second));
    assert_eq!(first["metadata"]["labels"]["app"], "web");

    here.write("web.yaml", &deployment("1", "old"));
    until("one pod less", || here.pod("web-1").is_none().then_some(()));
    let kept = here.running("web-0");
    assert_eq!((uid(&kept), &status(&kept)["containerID"]), (uid(&first), &status(&first)["containerID"]));

    here.write("web.yaml", &deployment("2", "new"));
    until("the new ones' output", || {
        let said = |name: &str| here.podinit(&["logs", name]).stdout == b"new\n";
        (said("web-0") && said("web-1")).then_some(())
    });
    let edited = here.running("web-0");
    assert_ne!(uid(&edited), uid(&first));

    here.write("web.yaml", &deployment("two", "bad"));
    let problems = until("a refusal", || {
        Some(here.say(&["get", "problems"])).filter(|problems| problems.contains("spec.replicas"))
    });
    assert!(problems.contains("\"two\" is not a whole number"), "{problems}");
    assert_eq!(uid(&here.running("web-0")), uid(&edited));
    assert!(here.pod("web-1").is_some());
}
