//! The tokeniser of a folder: `tokenizer.json` where it is there, else made of the vocabulary.

use std::path::Path;

use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// A tokeniser with what stands around and behind a sequence.
pub struct Vocabulary {
    /// Cuts no text and fills none up.
    pub tokenizer: Tokenizer,
    /// First and last id of a sequence.
    pub special: (u32, u32),
    /// Fills up.
    pub pad: u32,
}

/// Names of first, last and filling token: BERT's, then `RoBERTa`'s.
const SPECIAL: [[&str; 3]; 2] = [["[CLS]", "[SEP]", "[PAD]"], ["<s>", "</s>", "<pad>"]];

impl Vocabulary {
    /// Reads `files` (as [`ExtraFolder`](crate::engine::extra::ExtraFolder) found them) in `folder`.
    pub fn read(folder: &Path, files: &[&str]) -> Result<Self, String> {
        let path = |file: &str| folder.join(file).display().to_string();
        let mut tokenizer = match files {
            ["tokenizer.json"] => Tokenizer::from_file(path(files[0])).map_err(|error| error.to_string()),
            ["vocab.txt"] => word_pieces(folder, &path(files[0])),
            [vocabulary, merges] => byte_pairs(&path(vocabulary), &path(merges)),
            _ => Err("is of no known kind".to_owned()),
        }
        .map_err(|error| format!("{} {error}", files.join(" with ")))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
        let ids = |names: [&str; 3]| {
            let [first, last, pad] = names.map(|name| tokenizer.token_to_id(name));
            Some(((first?, last?), pad?))
        };
        let (special, pad) = SPECIAL
            .into_iter()
            .find_map(ids)
            .ok_or_else(|| format!("{} names no [CLS], [SEP] and [PAD], nor <s>, </s> and <pad>", files.join(", ")))?;
        Ok(Self { tokenizer, special, pad })
    }
}

/// `WordPiece` as BERT does it; `tokenizer_config.json` may say that case matters.
fn word_pieces(folder: &Path, vocabulary: &str) -> Result<Tokenizer, String> {
    let config: Value = match std::fs::read_to_string(folder.join("tokenizer_config.json")) {
        Ok(text) => {
            serde_json::from_str(&text).map_err(|error| format!("beside a broken tokenizer_config.json: {error}"))?
        }
        Err(_) => Value::Null,
    };
    let lowercase = config["do_lower_case"].as_bool().unwrap_or(true);
    let model =
        WordPiece::from_file(vocabulary).unk_token("[UNK]".to_owned()).build().map_err(|error| error.to_string())?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer
        .with_normalizer(Some(BertNormalizer::new(true, true, config["strip_accents"].as_bool(), lowercase)))
        .map_err(|error| error.to_string())?;
    Ok(tokenizer)
}

/// Byte-level byte pairs as `RoBERTa` does it.
fn byte_pairs(vocabulary: &str, merges: &str) -> Result<Tokenizer, String> {
    let model = BPE::from_file(vocabulary, merges).build().map_err(|error| error.to_string())?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
    let special = SPECIAL[1].map(|name| AddedToken::from(name, true));
    tokenizer.add_special_tokens(special).map_err(|error| error.to_string())?;
    Ok(tokenizer)
}
