import Foundation

/// What is said of a label; the raw values are the words that `medge classify` prints.
public enum Says: String, Codable, Sendable {
    /// The probability is above the label's upper threshold.
    case present
    /// The probability is below the label's lower threshold.
    case absent
    /// The probability is between the thresholds, or the picture is unlike anything that was calibrated on.
    case uncertain
    /// The label has no threshold: no image of this kind of picture had it.
    case notCalibrated = "not calibrated"
}

/// What is said of one label.
public struct Finding: Codable, Sendable {
    /// The label's name.
    public let label: String
    /// Whether it is there.
    public let says: Says
    /// Its calibrated probability, 0 to 1; nil where it is not calibrated.
    public let probability: Double?
}

/// What calibrated scores say of one image.
public struct Decision: Codable, Sendable {
    /// The image is unlike anything that was calibrated on: every label that is calibrated is uncertain, and none
    /// should be shown.
    public let unlike: Bool
    /// To the nearest centre, in standard deviations.
    public let distance: Double
    /// The kind of picture, "" where kinds are not told apart.
    public let kind: String
    /// One for each label, in the labels' order; empty where no logits were given.
    public let findings: [Finding]
    /// Labels among which the true one is as often as was asked for; nil where that was not calibrated or no logits
    /// were given.
    public let likely: [String]?
}

/// A file of calibrated scores, as `medge calibrate-scores` and `medge.calibrate_scores` make it: the arithmetic of Python's
/// runtime/decisions, in double precision.
///
/// It belongs to the scores that it was fitted to. Those of a CoreML package are other numbers than those of the ONNX file that
/// `medge calibrate-scores` uses, so this takes a file that was fitted to embeddings of the package.
public struct ScoreCalibration: Sendable {
    private struct Point: Decodable, Sendable {
        let absentBelow: Double?
        let presentAbove: Double?
    }

    private struct Kind: Decodable, Sendable {
        let name: String
        let slopes: [Double]
        let offsets: [Double]
        let points: [Point?]
        let likelyFrom: Double?
    }

    private struct Facts: Decodable, Sendable {
        let format: Int
        let form: String
        let labels: [String]
        let kinds: [Kind]
        let centres: [Int]
        let limit: Double?
        let fingerprint: String
    }

    private let facts: Facts
    private let whitening: [[Double]]
    private let centres: [[Double]]

    /// Read a calibration from its file.
    ///
    /// - Parameters:
    ///   - file: its bytes.
    ///   - size: D, how many numbers an embedding has.
    ///   - labels: those that are scored, in their order.
    ///   - fingerprint: what the calibration was told that its scores belong to.
    /// - Throws: ``MedgeError`` where the file is damaged, of another format or size, or fitted to other scores or
    ///   labels.
    public init(_ file: Data, size: Int, labels: [String], fingerprint: String) throws {
        let tensors: SafeTensors
        do {
            tensors = try SafeTensors(file)
            facts = try ScoreCalibration.read(tensors.metadata["facts"] ?? "")
        } catch {
            throw MedgeError("The calibration of scores is damaged (\(error.localizedDescription)). Copy it again.")
        }
        func matrix(_ name: String) -> [[Double]] { (tensors.matrices[name] ?? []).map { $0.map(Double.init) } }
        whitening = matrix("whitening")
        centres = matrix("centres")
        if let problem = problem(size, Set(tensors.matrices.keys)) {
            throw MedgeError("This is no calibration of scores: \(problem). Calibrate or copy it again.")
        }
        guard facts.fingerprint == fingerprint, facts.labels == labels else {
            throw MedgeError("The calibration was fitted to other scores or labels; its thresholds would be wrong here.")
        }
    }

    private static func read(_ text: String) throws -> Facts {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Facts.self, from: Data(text.utf8))
    }

    private func problem(_ size: Int, _ names: Set<String>) -> String? {
        if facts.format != 1 { return "its format is \(facts.format), and this app reads 1" }
        if !["one label", "findings"].contains(facts.form) { return "its form is \(facts.form)" }
        let rows = whitening + centres
        if names != ["whitening", "centres"] || whitening.count != size || rows.contains(where: { $0.count != size }) {
            return "its matrices have another size"
        }
        if rows.contains(where: { $0.contains { !$0.isFinite } }) { return "a value is no finite number" }
        if facts.labels.isEmpty || facts.kinds.isEmpty || facts.centres.count != centres.count {
            return "its labels, kinds or centres are not complete"
        }
        if !facts.centres.allSatisfy({ facts.kinds.indices.contains($0) }) { return "a centre is of a kind that is not there" }
        if let limit = facts.limit, !(0...1e9).contains(limit) { return "its limit is no distance" }
        for kind in facts.kinds {
            if Set([kind.slopes.count, kind.offsets.count, kind.points.count]) != [facts.labels.count] {
                return "a kind has not as many values as there are labels"
            }
            let bounded = kind.slopes.allSatisfy { $0 > 0 && $0 <= 1000 } && kind.offsets.allSatisfy { abs($0) <= 1e6 }
            if !bounded { return "a slope or an offset is out of bounds" }
            let points = kind.points.compactMap { $0 }
            let shares = [kind.likelyFrom] + points.flatMap { [$0.absentBelow, $0.presentAbove] }
            if !shares.compactMap({ $0 }).allSatisfy({ $0 >= 0 && $0 <= 1 }) { return "a threshold is no share" }
            if points.contains(where: { ($0.absentBelow ?? 0) > ($0.presentAbove ?? 1) }) { return "a label is both present and absent" }
            if facts.form == "one label" && points.isEmpty { return "a kind has no label" }
        }
        return nil
    }

    /// Decide on an image.
    ///
    /// - Parameters:
    ///   - embedding: D numbers of unit length.
    ///   - logits: logitScale · cosine + logitBias of each label, in the labels' order; nil where the image is scored
    ///     for other labels.
    /// - Returns: what is said of the image, and of each label where there are logits.
    public func decide(embedding: [Float], logits: [Double]?) -> Decision {
        let unit = embedding.map(Double.init)
        let white = whitening.map { row in zip(row, unit).reduce(0.0) { $0 + $1.0 * $1.1 } }
        let squares = centres.map { centre in zip(white, centre).map { $0 - $1 }.reduce(0.0) { $0 + $1 * $1 } }
        let nearest = squares.indices.min { squares[$0] < squares[$1] } ?? 0
        let distance = squares[nearest].squareRoot()
        let kind = facts.kinds[facts.centres[nearest]]
        let unlike = facts.limit.map { distance > $0 } ?? false
        guard let logits else { return Decision(unlike: unlike, distance: distance, kind: kind.name, findings: [], likely: nil) }
        let shares = probabilities(kind, logits)
        let findings = facts.labels.indices.map { index -> Finding in
            let says = kind.points[index].map { said($0, shares[index]) } ?? .notCalibrated
            return Finding(
                label: facts.labels[index], says: unlike && says != .notCalibrated ? .uncertain : says,
                probability: kind.points[index] == nil ? nil : shares[index])
        }
        let likely = kind.likelyFrom.map { from in
            facts.labels.indices.filter { kind.points[$0] != nil && (unlike || shares[$0] >= from) }.map { facts.labels[$0] }
        }
        return Decision(unlike: unlike, distance: distance, kind: kind.name, findings: findings, likely: likely)
    }

    private func probabilities(_ kind: Kind, _ logits: [Double]) -> [Double] {
        let scaled = facts.labels.indices.map { logits[$0] * kind.slopes[$0] + kind.offsets[$0] }
        if facts.form == "findings" { return scaled.map { 1 / (1 + exp(-$0)) } }
        // Labels of other kinds take nothing from the probabilities.
        let there = scaled.indices.map { kind.points[$0] == nil ? -Double.infinity : scaled[$0] }
        let greatest = there.max() ?? 0
        let powers = there.map { exp($0 - greatest) }
        let total = powers.reduce(0, +)
        return powers.map { $0 / total }
    }

    private func said(_ point: Point, _ share: Double) -> Says {
        if point.absentBelow == nil && point.presentAbove == nil { return .notCalibrated }
        if let low = point.absentBelow, share < low { return .absent }
        if let high = point.presentAbove, share > high { return .present }
        return .uncertain
    }
}
