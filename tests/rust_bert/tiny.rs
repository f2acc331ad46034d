//! Classifiers of a few hundred numbers, made on the spot.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rust_bert::bert::BertConfig;
use rust_bert::roberta::RobertaForSequenceClassification;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use tch::{Device, Kind, Tensor, nn::VarStore};

/// Longest window of a tiny model.
pub const POSITIONS: usize = 24;
const WIDTH: usize = 8;
const HEADS: usize = 2;
const LAYERS: usize = 2;
const WORDS: [&str; 13] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "bus", "was", "late", "a", "good", "word", "##s", "."];

/// Ids of words that are separated by spaces, between `[CLS]` and `[SEP]`.
pub fn ids(text: &str) -> Vec<usize> {
    let id = |word: &str| WORDS.iter().position(|known| *known == word).unwrap_or(1);
    std::iter::once(2).chain(text.split_whitespace().map(id)).chain([3]).collect()
}

/// A BERT classifier with its weights as this test sees them.
pub struct Tiny {
    pub folder: PathBuf,
    weights: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Tiny {
    /// Writes `config.json`, `vocab.txt` and `model.safetensors` as the Hugging Face library does.
    pub fn bert(folder: PathBuf, labels: &[&str], alone: bool) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let id2label: BTreeMap<String, &str> =
            labels.iter().enumerate().map(|(id, label)| (id.to_string(), *label)).collect();
        let config = json!({
            "model_type": "bert", "hidden_act": "relu", "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH,
            "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "max_position_embeddings": POSITIONS,
            "vocab_size": WORDS.len(), "type_vocab_size": 2, "layer_norm_eps": 1e-12, "initializer_range": 0.02,
            "attention_probs_dropout_prob": 0.1, "hidden_dropout_prob": 0.1, "id2label": id2label,
            "problem_type": if alone { "multi_label_classification" } else { "single_label_classification" },
        });
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        std::fs::write(folder.join("vocab.txt"), WORDS.join("\n")).unwrap();
        let mut tiny = Self { folder, weights: BTreeMap::new() };
        let mut state = 7_u32;
        let mut add = |name: String, shape: &[usize]| {
            let numbers = (0..shape.iter().product())
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as f32 / (1 << 23) as f32 - 1.0
                })
                .collect();
            tiny.weights.insert(name, (shape.to_vec(), numbers));
        };
        for (name, rows) in [("word", WORDS.len()), ("position", POSITIONS), ("token_type", 2)] {
            add(format!("bert.embeddings.{name}_embeddings.weight"), &[rows, WIDTH]);
        }
        let mut both = |name: &str, outputs: usize, inputs: Option<usize>| {
            // Old files call a layer norm's numbers gamma and beta.
            let (weight, bias) = if name.ends_with("LayerNorm") { ("gamma", "beta") } else { ("weight", "bias") };
            add(format!("{name}.{weight}"), &[Some(outputs), inputs].into_iter().flatten().collect::<Vec<_>>());
            add(format!("{name}.{bias}"), &[outputs]);
        };
        both("bert.embeddings.LayerNorm", WIDTH, None);
        for layer in 0..LAYERS {
            let name = |part: &str| format!("bert.encoder.layer.{layer}.{part}");
            for part in ["self.query", "self.key", "self.value", "output.dense"] {
                both(&name(&format!("attention.{part}")), WIDTH, Some(WIDTH));
            }
            both(&name("attention.output.LayerNorm"), WIDTH, None);
            both(&name("intermediate.dense"), 2 * WIDTH, Some(WIDTH));
            both(&name("output.dense"), WIDTH, Some(2 * WIDTH));
            both(&name("output.LayerNorm"), WIDTH, None);
        }
        both("bert.pooler.dense", WIDTH, Some(WIDTH));
        both("classifier", labels.len(), Some(WIDTH));
        let bytes: BTreeMap<&String, Vec<u8>> = tiny
            .weights
            .iter()
            .map(|(name, (_, numbers))| (name, numbers.iter().flat_map(|number| number.to_le_bytes()).collect()))
            .collect();
        let views = tiny
            .weights
            .iter()
            .map(|(name, (shape, _))| (name, TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).unwrap()));
        safetensors::serialize_to_file(views, None, &tiny.folder.join("model.safetensors")).unwrap();
        tiny
    }

    fn of(&self, name: &str) -> &[f32] {
        &self.weights[name].1
    }

    fn dense(&self, name: &str, input: &[f64]) -> Vec<f64> {
        let (weight, bias) = (self.of(&format!("{name}.weight")), self.of(&format!("{name}.bias")));
        let row = |(row, bias): (&[f32], &f32)| {
            row.iter().zip(input).map(|(weight, value)| f64::from(*weight) * value).sum::<f64>() + f64::from(*bias)
        };
        weight.chunks(input.len()).zip(bias).map(row).collect()
    }

    fn normalise(&self, name: &str, row: &[f64]) -> Vec<f64> {
        let (scale, shift) = (self.of(&format!("{name}.gamma")), self.of(&format!("{name}.beta")));
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let places = scale.iter().zip(shift).zip(row);
        places
            .map(|((scale, shift), value)| {
                (value - mean) / (variance + 1e-12).sqrt() * f64::from(*scale) + f64::from(*shift)
            })
            .collect()
    }

    /// The forward pass of BERT (Devlin et al., 2019) and its pooled classifier, by hand and in double precision.
    pub fn logits(&self, ids: &[usize]) -> Vec<f64> {
        let add = |left: &[f64], right: &[f64]| left.iter().zip(right).map(|(a, b)| a + b).collect::<Vec<f64>>();
        let mut rows: Vec<Vec<f64>> = ids
            .iter()
            .enumerate()
            .map(|(position, id)| {
                let of = |table: &str, row: usize| {
                    let table = self.of(&format!("bert.embeddings.{table}_embeddings.weight"));
                    table[row * WIDTH..][..WIDTH].iter().map(|number| f64::from(*number)).collect::<Vec<_>>()
                };
                let sum = add(&add(&of("word", *id), &of("position", position)), &of("token_type", 0));
                self.normalise("bert.embeddings.LayerNorm", &sum)
            })
            .collect();
        for layer in 0..LAYERS {
            let name = |part: &str| format!("bert.encoder.layer.{layer}.{part}");
            let of = |part: &str| -> Vec<Vec<f64>> {
                rows.iter().map(|row| self.dense(&name(&format!("attention.self.{part}")), row)).collect()
            };
            let (queries, keys, values) = (of("query"), of("key"), of("value"));
            let size = WIDTH / HEADS;
            rows = (0..rows.len())
                .map(|at| {
                    let mut context = vec![0.0; WIDTH];
                    for head in 0..HEADS {
                        let part = head * size..(head + 1) * size;
                        let product = |key: &Vec<f64>| {
                            let pairs = queries[at][part.clone()].iter().zip(&key[part.clone()]);
                            pairs.map(|(a, b)| a * b).sum::<f64>() / (size as f64).sqrt()
                        };
                        let shares: Vec<f64> = keys.iter().map(|key| product(key).exp()).collect();
                        let sum: f64 = shares.iter().sum();
                        for (share, value) in shares.iter().zip(&values) {
                            for place in part.clone() {
                                context[place] += share / sum * value[place];
                            }
                        }
                    }
                    let out = add(&self.dense(&name("attention.output.dense"), &context), &rows[at]);
                    let mixed = self.normalise(&name("attention.output.LayerNorm"), &out);
                    let wide: Vec<f64> =
                        self.dense(&name("intermediate.dense"), &mixed).iter().map(|value| value.max(0.0)).collect();
                    let out = add(&self.dense(&name("output.dense"), &wide), &mixed);
                    self.normalise(&name("output.LayerNorm"), &out)
                })
                .collect();
        }
        let pooled: Vec<f64> = self.dense("bert.pooler.dense", &rows[0]).iter().map(|value| value.tanh()).collect();
        self.dense("classifier", &pooled)
    }
}

/// A `RoBERTa` classifier as `rust_model.ot` with `vocab.json` and `merges.txt`; gives its folder
/// and what the model in memory says of its second label.
pub fn roberta(folder: PathBuf, text: &str) -> (PathBuf, f64) {
    std::fs::create_dir_all(&folder).unwrap();
    // Every letter for itself; `Ġ` is how byte-level pairs write a space.
    let mut vocabulary: BTreeMap<String, usize> =
        ["<s>", "<pad>", "</s>", "<unk>"].into_iter().enumerate().map(|(id, word)| (word.to_owned(), id)).collect();
    for letter in ('a'..='z').chain(['Ġ']) {
        vocabulary.insert(letter.to_string(), vocabulary.len());
    }
    let labels = json!({"0": "LABEL_0", "1": "LABEL_1"});
    let config = json!({
        "model_type": "roberta", "hidden_act": "gelu", "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2,
        "num_hidden_layers": 1, "max_position_embeddings": 66, "vocab_size": vocabulary.len(), "type_vocab_size": 1,
        "initializer_range": 0.02, "attention_probs_dropout_prob": 0.1, "hidden_dropout_prob": 0.1, "pad_token_id": 1,
        "id2label": labels,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.join("vocab.json"), serde_json::to_string(&vocabulary).unwrap()).unwrap();
    std::fs::write(folder.join("merges.txt"), "#version: 0.2\n").unwrap();
    tch::manual_seed(5);
    let store = VarStore::new(Device::Cpu);
    let config: BertConfig = serde_json::from_value(config).unwrap();
    let model = RobertaForSequenceClassification::new(store.root(), &config).unwrap();
    let named: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    Tensor::save_multi(&named, folder.join("rust_model.ot")).unwrap();
    let letters = text.chars().map(|letter| vocabulary[&letter.to_string().replace(' ', "Ġ")] as i64);
    let ids: Vec<i64> = std::iter::once(0).chain(letters).chain([2]).collect();
    let logits = model.forward_t(Some(&Tensor::from_slice(&ids).unsqueeze(0)), None, None, None, None, false).logits;
    (folder, logits.softmax(-1, Kind::Double).double_value(&[0, 1]))
}
