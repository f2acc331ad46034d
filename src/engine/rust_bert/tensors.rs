//! Weights from a file to the variables of a model, without a copy for each thread.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::{Mutex, PoisonError};

use safetensors::{Dtype, SafeTensors};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Named weights in single precision on one device. Models share them: what
/// [`Tensors::put_into`] gives a model are handles of these and no copies.
pub struct Tensors(Mutex<HashMap<String, Tensor>>);

impl Tensors {
    /// Of a safetensors file's bytes. Half precision is expanded.
    pub fn of_safetensors(bytes: &[u8], device: Device) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| format!("not a safetensors file: {error}"))?;
        let mut tensors = Vec::new();
        for (name, view) in file.iter() {
            let kind = match view.dtype() {
                Dtype::F64 => Kind::Double,
                Dtype::F32 => Kind::Float,
                Dtype::F16 => Kind::Half,
                Dtype::BF16 => Kind::BFloat16,
                // Buffers such as position numbers, which rust-bert makes itself.
                _ => continue,
            };
            let shape: Vec<i64> = view.shape().iter().map(|size| *size as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
                .map_err(|error| format!("tensor `{name}` cannot be read: {error}"))?;
            tensors.push((name.to_owned(), tensor));
        }
        Ok(Self::new(tensors, device))
    }

    /// Of a `rust_model.ot` file's bytes.
    pub fn of_torch(bytes: &[u8], device: Device) -> Result<Self, String> {
        let tensors = Tensor::load_multi_from_stream_with_device(Cursor::new(bytes), Device::Cpu)
            .map_err(|error| format!("not a libtorch file: {error}"))?;
        Ok(Self::new(tensors, device))
    }

    fn new(tensors: Vec<(String, Tensor)>, device: Device) -> Self {
        let ours = |(name, tensor): (String, Tensor)| (modern(&name), tensor.to_kind(Kind::Float).to_device(device));
        Self(Mutex::new(tensors.into_iter().map(ours).collect()))
    }

    /// Gives every variable of a model its weights.
    ///
    /// # Errors
    ///
    /// Names a tensor that is missing or of another shape, or holds a number that is not finite.
    pub fn put_into(&self, store: &VarStore) -> Result<(), String> {
        let tensors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut variables: Vec<(String, Tensor)> = store.variables().into_iter().collect();
        variables.sort_by(|left, right| left.0.cmp(&right.0));
        for (name, mut variable) in variables {
            let tensor = tensors.get(&name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
            if tensor.size() != variable.size() {
                return Err(format!("tensor `{name}` has shape {:?}, not {:?}", tensor.size(), variable.size()));
            }
            if !bool::try_from(tensor.isfinite().all()).unwrap_or(false) {
                return Err(format!("tensor `{name}` holds a number that is not finite"));
            }
            variable.set_data(tensor);
        }
        Ok(())
    }
}

/// Layer norms were called otherwise in files of the first years.
fn modern(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((layer, "gamma")) => format!("{layer}.weight"),
        Some((layer, "beta")) => format!("{layer}.bias"),
        _ => name.to_owned(),
    }
}
