//! Which ConfigMaps and Secrets are remembered: the last good ones, as the specs of pods are, for a later life of PID 1.

use std::sync::Arc;

use super::facts::{Fact, World};
use super::spec::Config;

/// By what it is known: no two of a listing share it.
pub fn key(config: &Config) -> String {
    let kind = if config.secret { "Secret" } else { "ConfigMap" };
    format!("{kind} {}/{}", config.namespace, config.name)
}

/// What a listing has that the world does not know so, and what it has no more.
pub fn news(world: &World, listed: &[Arc<Config>]) -> Vec<Fact> {
    let known = |config: &&Arc<Config>| {
        // A listing that changes nothing keeps its allocations.
        world.configs.get(&key(config)).is_some_and(|known| Arc::ptr_eq(known, config) || known == *config)
    };
    let fresh = listed.iter().filter(|config| !known(config));
    let there = |key: &String| listed.iter().any(|config| self::key(config) == *key);
    let gone = world.configs.keys().filter(|key| !there(key));
    let fresh = fresh.map(|config| Fact::Kept { config: config.clone() });
    fresh.chain(gone.map(|key| Fact::Dropped { key: key.clone() })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tick;

    fn config(name: &str, value: &[u8]) -> Arc<Config> {
        let data = [("key".to_owned(), value.to_vec())].into();
        Arc::new(Config { name: name.into(), namespace: "default".into(), data, ..Config::default() })
    }

    #[test]
    fn the_world_follows_the_listing() {
        let secret = Arc::new(Config { secret: true, ..config("a", b"\xff").as_ref().clone() });
        let table: [(&[Arc<Config>], usize); 5] = [
            (&[config("a", b"1"), config("b", b"1"), secret.clone()], 3),
            (&[config("a", b"1"), config("b", b"1"), secret.clone()], 0),
            (&[config("a", b"2"), config("b", b"1"), secret.clone()], 1),
            (&[config("a", b"2"), secret], 1),
            (&[], 2),
        ];
        let mut world = World::default();
        for (second, (listed, count)) in table.into_iter().enumerate() {
            let facts = news(&world, listed);
            assert_eq!(facts.len(), count, "{listed:?}");
            for fact in facts {
                let text = serde_json::to_string(&fact).unwrap();
                assert!(!text.contains("255"), "not a number for each byte: {text}");
                assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact);
                world.learn(fact, Tick::seconds(second as u64));
            }
            assert!(world.configs.values().all(|config| listed.contains(config)));
            assert_eq!((world.configs.len(), news(&world, listed)), (listed.len(), vec![]));
        }
    }
}
