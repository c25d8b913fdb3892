//! Slopes and percentiles.

/// Returns the slope of a line through points by least squares; `None` if all have the same abscissa.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = float(u64::try_from(points.len()).ok()?);
    let (sum_x, sum_y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in points {
        above += (x - mean_x) * (y - mean_y);
        below += (x - mean_x) * (x - mean_x);
    }
    (below > 0.0).then(|| above / below)
}

/// Returns the value that this percentage of all values does not exceed (nearest rank); `None` without values.
pub fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Returns a count as a number for calculations; above 2^53 the last digits are lost.
#[allow(clippy::as_conversions, clippy::cast_precision_loss)]
pub fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_line_is_found_below_noise() {
        let noise = [0.5, -0.5, -0.5, 0.5];
        let points: Vec<(f64, f64)> = (0..400)
            .map(|index| {
                let x = float(index);
                (
                    x,
                    7.0 + 3.0 * x + noise[usize::try_from(index % 4).unwrap_or(0)],
                )
            })
            .collect();
        let found = slope(&points).expect("many points");
        assert!((found - 3.0).abs() < 0.001, "{found}");
        assert_eq!((slope(&[]), slope(&[(1.0, 2.0), (1.0, 3.0)])), (None, None));
    }

    #[test]
    fn percentiles_are_values_that_occur() {
        let values: Vec<f64> = (1..=200).rev().map(float).collect();
        let of = |percent| percentile(&values, percent);
        assert_eq!(
            (of(50), of(99), of(100)),
            (Some(100.0), Some(198.0), Some(200.0))
        );
        assert_eq!((of(0), percentile(&[], 50)), (Some(1.0), None));
    }
}
